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
code 65 when something is, 74 or 66 when a file could not be read. A folder that holds train and validation stands for both.)";

void Verify(const std::vector<std::string>& paths) {
  std::vector<Error> all;
  for (const std::string& path : paths) {
    for (const std::string& folder : ShardFoldersIn(path)) {
      const std::vector<Error> faults = VerifyShards(folder);
      for (const Error& fault : faults) {
        fmt::print(stderr, "ksa: {}\n", fault.what());
      }
      if (faults.empty()) {
        fmt::print("{}: good\n", folder);
      }
      all.insert(all.end(), faults.begin(), faults.end());
    }
  }
  FailIfFaulty(all);
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
