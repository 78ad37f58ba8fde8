#include "kernels/core/warning.h"

#include <cstdio>
#include <mutex>
#include <set>

#include <fmt/core.h>

namespace ksa {

void WarnOnce(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(text).second) {
    fmt::print(stderr, "ksa: warning: {}\n", text);
  }
}

}  // namespace ksa
