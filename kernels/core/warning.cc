#include "kernels/core/warning.h"

#include <algorithm>
#include <cstdio>
#include <mutex>

#include <fmt/core.h>

namespace ksa {
namespace {

struct Said {
  std::mutex mutex;
  std::vector<std::string> texts;  // in order; there are few
};

Said& TheSaid() {
  static Said said;
  return said;
}

}  // namespace

void WarnOnce(const std::string& text) {
  Said& said = TheSaid();
  const std::lock_guard lock(said.mutex);
  if (std::find(said.texts.begin(), said.texts.end(), text) == said.texts.end()) {
    said.texts.push_back(text);
    fmt::print(stderr, "ksa: warning: {}\n", text);
  }
}

std::vector<std::string> WarningsSaid(size_t first) {
  Said& said = TheSaid();
  const std::lock_guard lock(said.mutex);
  const auto begin = said.texts.begin() + static_cast<std::ptrdiff_t>(std::min(first, said.texts.size()));
  return {begin, said.texts.end()};
}

}  // namespace ksa
