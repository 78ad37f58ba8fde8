// Samples of tasks for tests: a batch of one, and what a reader of its ids alone can find out.
#pragma once

#include <string>
#include <vector>

#include "data/loader/batch_rows.h"
#include "data/tasks/task_stream.h"

namespace ksa::testing {

struct MadeSample {
  std::vector<int32_t> inputs;
  std::vector<int32_t> targets;
  std::vector<TaskAnswer> answers;
  int64_t target_count = 0;
};

struct TaskCase {
  std::string task;  // as after --task
  int32_t length = 0;
  int64_t vocab_size = 0;
  uint64_t seed = 7;
  TaskUse use = TaskUse::kValidation;
  std::string name = "a";
  bool documents = false;

  [[nodiscard]] DatasetConfig Config() const {
    DatasetConfig config;
    config.document_mask = documents;
    config.sequence_length = length;
    config.chunk_size = 4;
    config.vocab_size = vocab_size;
    config.seed = seed;
    return config;
  }

  [[nodiscard]] TaskStream Stream() const { return {ParseTaskSpec(task), name, use, Config(), nullptr}; }

  [[nodiscard]] MadeSample Sample(int64_t number) const {
    Batch batch;
    MadeSample sample;
    ResizeBatch(0, 1, Config(), batch);
    Stream().Fill(number, 0, batch, &sample.answers);
    sample.inputs = batch.inputs;
    sample.targets = batch.targets;
    sample.target_count = batch.target_count;
    return sample;
  }
};

}  // namespace ksa::testing
