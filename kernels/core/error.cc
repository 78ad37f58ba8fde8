#include "kernels/core/error.h"

#include <new>
#include <system_error>

namespace ksa {

void ThrowAsErrors(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    Fail(ExitCode::kOutOfMemory, "out of memory");
  } catch (const std::system_error& error) {
    // Threads, above all, that a library could not start.
    const bool none_left =
        error.code() == std::errc::resource_unavailable_try_again || error.code() == std::errc::not_enough_memory;
    Fail(none_left ? ExitCode::kOutOfMemory : ExitCode::kInternal,
         "{}: {}",
         none_left ? "out of memory, or of threads (run.threads, ulimit -u, ulimit -v)" : "internal error",
         error.what());
  } catch (const std::exception& error) {
    Fail(ExitCode::kInternal, "internal error: {}", error.what());
  }
}

namespace internal {

void FailCheck(const char* condition, const char* file, int line, const std::string& message) {
  throw Error(ExitCode::kInternal, fmt::format("{} (check `{}` failed at {}:{})", message, condition, file, line));
}

}  // namespace internal
}  // namespace ksa
