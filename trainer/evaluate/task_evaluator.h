// Accuracy of a task, without gradients.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tasks/task_stream.h"
#include "model/ksa/model.h"
#include "trainer/evaluate/task_scores.h"
#include "trainer/evaluate/validation.h"
#include "trainer/step/runtime.h"

namespace ksa {

// Samples 0 to samples - 1 of the task that `name` names, as for validation; seed, length, vocabulary and documents as
// in `data`. `tokenizer`: of text tasks, else null; it must outlive what is made of this.
struct TaskToEvaluate {
  TaskSpec task;
  std::string name;
  int64_t samples = 0;
  DatasetConfig data;
  const Tokenizer* tokenizer = nullptr;
};

class TaskEvaluator {
 public:
  // `runtime` and `model` must outlive it. `micro_batch_size`: samples a forward pass. Errors as TaskStream.
  TaskEvaluator(Runtime& runtime, KsaModel& model, const TaskToEvaluate& what, int32_t micro_batch_size);

  // Shared by the data ranks; every rank has the same. `mix`: AnnealMix. None when it was interrupted.
  [[nodiscard]] std::optional<TaskScores> Run(double mix, const Evaluator::Interrupted& interrupted = {});

  [[nodiscard]] const std::string& name() const { return what_.name; }

  [[nodiscard]] int64_t samples() const { return what_.samples; }

 private:
  // Adds to wrong [samples, answers a sample] how many tokens of an answer another id beats, of this rank's rows.
  void RunBatch(int64_t first, int64_t count, double mix, std::vector<double>& wrong);

  Runtime& runtime_;
  TaskToEvaluate what_;
  TaskStream stream_;
  int32_t micro_batch_size_;
  size_t answers_a_sample_ = 0;                   // most
  std::vector<std::vector<TaskAnswer>> answers_;  // [samples]
  Batch batch_;
  BatchEvaluator evaluator_;
};

}  // namespace ksa
