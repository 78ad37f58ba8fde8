#include <memory>

#include <fmt/core.h>

#include "data/tools/merge.h"
#include "trainer/commands/data_commands.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa data merge shards/a shards/b --output shards/ab

One index over the shards of all folders, in their order: what several `ksa data tokenize --part I/N` made is joined so.
Nothing is copied: shards are linked, so the output lies on their file system, and the folders may be removed afterwards.
Folders that hold train and validation are merged part by part. The output appears whole or not at all.)";

void Merge(const MergeOptions& options) {
  for (const MergedFolder& folder : MergeShards(options)) {
    fmt::print("{}: {} tokens in {} documents, {} shard{}\n",
               folder.path,
               folder.tokens,
               folder.documents,
               folder.shards,
               folder.shards == 1 ? "" : "s");
  }
}

}  // namespace

void AddDataMergeCommand(CLI::App& data) {
  CLI::App* command = data.add_subcommand("merge", "One index over the shards of several folders");
  const auto options = std::make_shared<MergeOptions>();
  command->add_option("DIR", options->inputs, "shard folders, or folders of train and validation")
      ->required()
      ->expected(1, -1);
  command->add_option("--output", options->output, "folder to make; it must not exist, or be empty")
      ->required()
      ->type_name("DIR");
  command->footer(kExamples);
  command->callback([options] { Merge(*options); });
}

}  // namespace ksa
