#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "data/shards/shard_index.h"
#include "data/tools/verify.h"
#include "kernels/core/error.h"
#include "trainer/commands/data_commands.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa data verify shards/book
  ksa data verify shards/a shards/b/validation

Reads every byte and compares it with the hashes; names every damaged shard, with the first block that is wrong. Exit
code 65 when something is. A folder that holds train and validation stands for both.)";

// The shard folders that a path stands for.
std::vector<std::string> ShardFoldersIn(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::exists(fs::path(path) / kIndexFile) && fs::is_directory(fs::path(path) / "train")) {
    return {(fs::path(path) / "train").string(), (fs::path(path) / "validation").string()};
  }
  return {path};
}

void Verify(const std::vector<std::string>& paths) {
  size_t damaged = 0;
  for (const std::string& path : paths) {
    for (const std::string& folder : ShardFoldersIn(path)) {
      const std::vector<std::string> problems = VerifyShards(folder);
      for (const std::string& problem : problems) {
        fmt::print(stderr, "ksa: {}\n", problem);
      }
      if (problems.empty()) {
        fmt::print("{}: good\n", folder);
      }
      damaged += problems.size();
    }
  }
  if (damaged > 0) {
    Fail(ExitCode::kBadData, "{} file{} damaged", damaged, damaged == 1 ? " is" : "s are");
  }
}

}  // namespace

void AddDataVerifyCommand(CLI::App& data) {
  CLI::App* command = data.add_subcommand("verify", "Check every byte of token shards");
  const auto folders = std::make_shared<std::vector<std::string>>();
  command->add_option("DIR", *folders, "Shard folders")->required()->expected(1, -1);
  command->footer(kExamples);
  command->callback([folders] { Verify(*folders); });
}

}  // namespace ksa
