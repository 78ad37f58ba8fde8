// What a run reads: plain values, filled by the trainer from its configuration.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tasks/task_spec.h"

namespace ksa {

// What to train on: a shard folder, or a task, which makes its samples. `weight` is the share of the samples, relative
// to the other sources' weights.
struct TrainSource {
  std::string path;  // empty where it is a task
  double weight = 1;
  std::string name;  // empty: the folder's name, or the task's
  TaskSpec task{};   // without a kind: none

  friend bool operator==(const TrainSource&, const TrainSource&) = default;
};

struct ValidationSource {
  std::string path;  // empty where it is a task
  std::string name;  // empty: the folder's name, or the task's
  TaskSpec task{};   // without a kind: none

  friend bool operator==(const ValidationSource&, const ValidationSource&) = default;
};

// What happens when a block of tokens does not match its hash.
enum class OnCorrupt : int {
  kAbort,  // Error(kBadData) naming file and block
  kSkip,   // samples that touch the block get no targets
};

struct DatasetConfig {
  std::vector<TrainSource> train;  // may be empty when only validation is wanted
  std::vector<ValidationSource> validation;
  bool document_mask = false;
  OnCorrupt on_corrupt = OnCorrupt::kAbort;
  int32_t sequence_length = 0;  // T: text tokens of a sample
  int32_t chunk_size = 1;       // k: documents start at multiples of it under document_mask
  int64_t vocab_size = 0;       // of the model; every token must be smaller
  uint64_t seed = 0;            // run.seed
};

}  // namespace ksa
