// The samples of one source that makes them: a pure function of the run's seed, the task, the source's name, whether it
// is trained or validated on, and the sample's number.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/loader/batch.h"
#include "data/loader/data_config.h"
#include "data/tasks/task.h"

namespace ksa {

enum class TaskUse : int { kTraining, kValidation };

class TaskStream {
 public:
  // Read of `config`: sequence_length, vocab_size, document_mask, chunk_size, seed. Outside of training the pool of a
  // task is whole. Errors as MakeTask.
  TaskStream(const TaskSpec& spec,
             const std::string& name,
             TaskUse use,
             const DatasetConfig& config,
             const Tokenizer* tokenizer);

  // Makes sample `number` the sample `index` of the batch, which ResizeBatch has made, as one document; adds to its
  // count of targets. Thread-safe. `answers`: of this sample, instead of what was there; or null.
  void Fill(int64_t number, int64_t index, Batch& batch, std::vector<TaskAnswer>* answers = nullptr) const;

  [[nodiscard]] int64_t MostTargets() const { return task_->MostTargets(); }

 private:
  DatasetConfig config_;
  std::unique_ptr<Task> task_;
  uint64_t key_;
};

}  // namespace ksa
