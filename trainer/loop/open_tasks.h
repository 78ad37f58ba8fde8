// The tasks that a run is judged by.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/loader/dataset.h"
#include "data/tokenizers/tokenizer.h"
#include "trainer/config/config.h"
#include "trainer/evaluate/task_evaluator.h"

namespace ksa {

struct OpenTasks {
  std::unique_ptr<Tokenizer> tokenizer;  // of text tasks, else null
  std::vector<std::unique_ptr<TaskEvaluator>> tasks;
};

// `config`.evaluation.tasks, of each at most `most_samples` samples. All others must outlive the result. Errors as
// TaskStream and OpenTokenizer.
[[nodiscard]] OpenTasks OpenEvaluationTasks(
    const Config& config, Runtime& runtime, const Dataset& dataset, KsaModel& model, int64_t most_samples);

}  // namespace ksa
