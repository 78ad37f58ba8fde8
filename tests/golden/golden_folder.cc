#include "tests/golden/golden_folder.h"

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include <fmt/core.h>
#include <gtest/gtest.h>

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

const char* NameOf(Verdict verdict) {
  return verdict == Verdict::kPass ? "PASS" : verdict == Verdict::kFail ? "FAIL" : "SKIP";
}

}  // namespace

FolderResult RunFolder(const fs::path& folder, const Place& place) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".h5") {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  FolderResult result;
  for (const fs::path& path : files) {
    const FileResult file = RunGoldenFile(path.string(), place);
    const std::string name = path.filename().string();
    fmt::print("{}  {}\n      {}\n", NameOf(file.verdict), name, file.text);
    auto& list = file.verdict == Verdict::kPass   ? result.passed
                 : file.verdict == Verdict::kFail ? result.failed
                                                  : result.skipped;
    list.push_back(name);
  }
  fmt::print("{} passed, {} failed, {} skipped of {} files in {}\n",
             result.passed.size(),
             result.failed.size(),
             result.skipped.size(),
             result.size(),
             folder.string());
  return result;
}

void ExpectFilesPass(const Place& place) {
  const char* given = std::getenv("KSA_GOLDEN_DIR");
  const fs::path folder = given == nullptr ? "tests/golden" : given;
  const FolderResult result = RunFolder(folder, place);
  EXPECT_EQ(result.failed, std::vector<std::string>());
  EXPECT_GT(result.size(), 0U) << "no .h5 file in " << fs::absolute(folder)
                               << "; set KSA_GOLDEN_DIR to the folder of the golden files";
}

}  // namespace ksa::testing
