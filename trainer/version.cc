#include "trainer/version.h"

#include <string_view>

namespace ksa {

std::string ProgramVersion() {
  const std::string_view commit = kBuiltCommit;
  return std::string(KSA_VERSION " (") + (commit.empty() ? "commit unknown" : std::string(commit)) + ")";
}

}  // namespace ksa
