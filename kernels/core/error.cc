#include "kernels/core/error.h"

#include <new>

namespace ksa {

void ThrowAsErrors(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    Fail(ExitCode::kOutOfMemory, "out of memory");
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
