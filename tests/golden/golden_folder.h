// Runs every golden file of a folder and prints each one's verdict.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/golden/golden_file.h"

namespace ksa::testing {

// Which files got which verdict.
struct FolderResult {
  std::vector<std::string> passed;
  std::vector<std::string> failed;
  std::vector<std::string> skipped;

  [[nodiscard]] size_t size() const { return passed.size() + failed.size() + skipped.size(); }
};

[[nodiscard]] FolderResult RunFolder(const std::filesystem::path& folder, const Place& place);

// gtest's expectation that there are files in KSA_GOLDEN_DIR, or else in tests/golden, and that none fails.
void ExpectFilesPass(const Place& place);

}  // namespace ksa::testing
