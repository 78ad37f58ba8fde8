#include "trainer/checkpoint/checked.h"

#include <fmt/core.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// Changes when a file of the folder is written to, replaced, added or removed. Empty when it cannot be told.
std::string StampOf(const std::string& folder) {
  try {
    std::string stamp;
    for (const std::string& name : NamesIn(folder)) {
      stamp += fmt::format("{} {}\n", name, VersionOf(folder + "/" + name));
    }
    return stamp;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

void CheckedCheckpoints::Remember(const std::string& path, bool good) {
  answers_[path] = {StampOf(path), good};
}

std::optional<bool> CheckedCheckpoints::Recall(const std::string& path) const {
  const auto found = answers_.find(path);
  if (found == answers_.end() || found->second.stamp.empty() || found->second.stamp != StampOf(path)) {
    return std::nullopt;
  }
  return found->second.good;
}

}  // namespace ksa
