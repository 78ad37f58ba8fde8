#include "trainer/loop/open_tasks.h"

#include <algorithm>

#include "data/tasks/task.h"

namespace ksa {

OpenTasks OpenEvaluationTasks(
    const Config& config, Runtime& runtime, const Dataset& dataset, KsaModel& model, int64_t most_samples) {
  OpenTasks opened;
  for (const EvaluationTask& task : config.evaluation.tasks) {
    if (FindTaskKind(task.task.kind)->is_text && opened.tokenizer == nullptr && dataset.HasTokenizer()) {
      opened.tokenizer = OpenTokenizer(dataset.TokenizerPath());
    }
    opened.tasks.push_back(
        std::make_unique<TaskEvaluator>(runtime,
                                        model,
                                        TaskToEvaluate{.task = task.task,
                                                       .name = task.name,
                                                       .samples = std::min<int64_t>(task.samples, most_samples),
                                                       .data = dataset.config(),
                                                       .tokenizer = opened.tokenizer.get()},
                                        *config.training.micro_batch_size));
  }
  return opened;
}

}  // namespace ksa
