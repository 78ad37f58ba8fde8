// One source of a run: its shard folder, opened and checked against what the run asks of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/loader/data_config.h"
#include "data/sampling/sample_order.h"
#include "data/shards/shard_folder.h"
#include "kernels/core/error.h"

namespace ksa {

struct OpenedSource {
  ShardFolder folder;
  SourceShape shape;  // its name, and the samples of its shards
};

// The name that is given, or the last folder of the path.
[[nodiscard]] std::string SourceName(const std::string& name, const std::string& path);

// Of a source that is a task.
[[nodiscard]] SourceShape TaskShape(const TrainSource& source);
[[nodiscard]] SourceShape TaskShape(const ValidationSource& source);

// `first` is the run's first source, whose tokenizer all share; none: this is the first. Error kMissingInput: a folder
// or file is not there; kBadData: a damaged or changed shard, no sample of config.sequence_length, a token >=
// config.vocab_size, another tokenizer.
[[nodiscard]] OpenedSource OpenSource(const TrainSource& source, const DatasetConfig& config, const ShardFolder* first);
[[nodiscard]] OpenedSource OpenSource(const ValidationSource& source,
                                      const DatasetConfig& config,
                                      const ShardFolder* first);

// Something wrong with a source.
struct SourceProblem {
  std::string source;  // "data.train[0]"
  std::string path;
  ExitCode code = ExitCode::kBadData;
  std::string message;
  bool absent = false;  // there is no such folder: perhaps it is still to be made
};

// What Dataset would refuse, of every source and not of the first alone: opens each, and lets go of it.
[[nodiscard]] std::vector<SourceProblem> FindSourceProblems(const DatasetConfig& config);

}  // namespace ksa
