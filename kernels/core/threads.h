// Threads that the system may refuse.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

namespace ksa {

// More than any host has cores; beyond a few ten thousand, OpenMP's start of a parallel region overflows the stack.
inline constexpr int kMaxThreads = 1024;

namespace internal {
[[noreturn]] void FailThread(const char* purpose, const std::system_error& error);
}  // namespace internal

// A thread that runs `body`. Error(kOutOfMemory) where the system has none left; `purpose` says what it would have
// done: "reads batches ahead".
template <typename Body>
[[nodiscard]] std::thread StartThread(const char* purpose, Body&& body) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    internal::FailThread(purpose, error);
  }
}

// Error(kOutOfMemory) unless `count` more threads can live at a time. For libraries that end the process where they get
// none: one asks before they do.
void CheckThreadsStart(int count);

}  // namespace ksa
