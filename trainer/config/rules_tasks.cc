// Tasks: made here once for each, as the run will make them.
#include <algorithm>

#include <fmt/core.h>

#include "data/tasks/task.h"
#include "kernels/core/error.h"
#include "trainer/config/rules.h"

namespace ksa {
namespace {

bool HasShards(const DataConfig& data) {
  const auto reads = [](const auto& source) { return source.task.kind.empty(); };
  return std::any_of(data.train.begin(), data.train.end(), reads);
}

template <typename Source>
void CheckTasks(const RuleCheck& check, const std::string& list, const std::vector<Source>& sources) {
  if (!check.given.Usable({list, "training.sequence_length", "model.vocab_size"})) {
    return;
  }
  const Config& config = check.draft.config;
  for (size_t i = 0; i < sources.size(); ++i) {
    const TaskKind* kind = FindTaskKind(sources[i].task.kind);
    if (kind == nullptr || (kind->is_text && (!check.given.Usable({"data.train"}) || HasShards(config.data)))) {
      continue;  // text is cut by a tokenizer, which is looked at with the data
    }
    try {
      static_cast<void>(MakeTask({.spec = sources[i].task,
                                  .sequence_length = config.training.sequence_length,
                                  .vocab_size = config.model.vocab_size}));
    } catch (const Error& error) {
      if (error.code() == ExitCode::kConfig) {  // what the vocabulary lacks, the data says
        check.problems.Add(check.given.PlaceOf({list}), fmt::format("{}[{}]", list, i), error.what());
      }
    }
  }
}

}  // namespace

void CheckTaskRules(const RuleCheck& check) {
  const Config& config = check.draft.config;
  CheckTasks(check, "data.train", config.data.train);
  CheckTasks(check, "data.validation", config.data.validation);
  CheckTasks(check, "evaluation.tasks", config.evaluation.tasks);
  if (!check.given.Usable({"data.validation", "evaluation.batches"}) || config.evaluation.batches) {
    return;
  }
  for (const ValidationSource& source : config.data.validation) {
    if (!source.task.kind.empty()) {
      check.Fail({"evaluation.batches"},
                 fmt::format("all of '{}' is without end, as a task makes its samples; give a number", source.name));
    }
  }
}

}  // namespace ksa
