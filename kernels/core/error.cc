#include "kernels/core/error.h"

namespace ksa::internal {

void FailCheck(const char* condition, const char* file, int line, const std::string& message) {
  throw Error(ExitCode::kInternal, fmt::format("{} (check `{}` failed at {}:{})", message, condition, file, line));
}

}  // namespace ksa::internal
