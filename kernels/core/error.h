// The one exception type of the project, and the checks that throw it.
//
// A message says what was expected, what came, where (op, file, key) and what to do. The exit code is the
// process's answer when nobody catches the error (docs/exit-codes.md).
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

namespace ksa {

// The documented exit codes of the `ksa` program.
enum class ExitCode : int {
  kDone = 0,
  kInternal = 1,       // a bug of ours
  kDiffers = 2,        // `compare` found a difference
  kUsage = 64,         // command line
  kBadData = 65,       // bad data or a corrupt checkpoint
  kMissingInput = 66,  // missing input or checkpoint
  kUnavailable = 69,   // `doctor` found what stops a run
  kDiverged = 70,      // non-finite loss or gradient norm
  kOutOfMemory = 71,
  kCannotCreate = 73,  // cannot create output, run folder locked
  kIo = 74,            // I/O error, full disk
  kPeerLost = 75,      // hang or lost peer: retry
  kConfig = 78,
  kStopped = 85,          // stopped by a scheduler's request or a limit: run again
  kStoppedByPerson = 86,  // saved and ended because a person asked: not to be started again by itself
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  [[nodiscard]] ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Throws Error(code, formatted message).
template <typename... Args>
[[noreturn]] void Fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Runs `body`; an exception of another type becomes an Error: kOutOfMemory for std::bad_alloc and for a system_error
// that means the same (no thread could be started), else kInternal.
void ThrowAsErrors(const std::function<void()>& body);

namespace internal {
[[noreturn]] void FailCheck(const char* condition, const char* file, int line, const std::string& message);
}  // namespace internal

}  // namespace ksa

// A caller's mistake: always checked, throws Error(kInternal) naming the condition and the place.
#define KSA_CHECK(condition, ...)                                                             \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      ::ksa::internal::FailCheck(#condition, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__)); \
    }                                                                                         \
  } while (false)
