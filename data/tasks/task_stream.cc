#include "data/tasks/task_stream.h"

#include <algorithm>

#include <fmt/core.h>

#include "data/loader/batch_rows.h"
#include "kernels/core/philox.h"

namespace ksa {

TaskStream::TaskStream(
    const TaskSpec& spec, const std::string& name, TaskUse use, const DatasetConfig& config, const Tokenizer* tokenizer)
    : config_(config),
      task_(MakeTask({.spec = spec,
                      .sequence_length = config.sequence_length,
                      .vocab_size = config.vocab_size,
                      .tokenizer = tokenizer})),
      key_(NamedKey(
          config.seed,
          fmt::format("task {} {} {}", spec.kind, use == TaskUse::kTraining ? "train" : "validation", name))) {}

void TaskStream::Fill(int64_t number, int64_t index, Batch& batch, std::vector<TaskAnswer>* answers) const {
  FillOneDocument(config_, index, batch);
  TaskSample sample = {InputsOf(batch, index), TargetsOf(batch, index), {}};
  SampleRandom random(key_, number);
  task_->Make(random, number, sample);
  batch.target_count +=
      std::count_if(sample.targets.begin(), sample.targets.end(), [](int32_t target) { return target >= 0; });
  if (answers != nullptr) {
    *answers = std::move(sample.answers);
  }
}

}  // namespace ksa
