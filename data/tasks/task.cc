#include "data/tasks/task.h"

#include <algorithm>

#include "data/tasks/kinds.h"
#include "kernels/core/error.h"

namespace ksa {

const TaskKey* TaskKind::FindKey(const std::string& key) const {
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const TaskKey& one) { return one.name == key; });
  return found == keys.end() ? nullptr : &*found;
}

const std::vector<TaskKind>& TaskKinds() {
  static const std::vector<TaskKind> kKinds = {RecallStreamKind(),
                                               MqarKind(),
                                               ForgettingKind(),
                                               NeedleKind(),
                                               VariableTrackingKind(),
                                               CopyKind(),
                                               NiahSingleKind(),
                                               NiahMultikeyKind(),
                                               NiahMultivalueKind(),
                                               VtKind(),
                                               CweKind(),
                                               FweKind()};
  return kKinds;
}

const TaskKind* FindTaskKind(const std::string& name) {
  const std::vector<TaskKind>& kinds = TaskKinds();
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const TaskKind& kind) { return kind.name == name; });
  return found == kinds.end() ? nullptr : &*found;
}

std::unique_ptr<Task> MakeTask(const TaskPlace& place) {
  const TaskKind* kind = FindTaskKind(place.spec.kind);
  KSA_CHECK(kind != nullptr, "a task '{}'", place.spec.kind);
  if (kind->is_text && place.tokenizer == nullptr) {
    Fail(ExitCode::kConfig,
         "task {} is made of text and takes the tokenizer of the run's shards, but data.train has no shard folder; add "
         "one, or take a task without text",
         kind->name);
  }
  if (kind->is_text && !place.tokenizer->SpellsText()) {
    Fail(ExitCode::kConfig,
         "task {} is made of text, but the tokenizer '{}' of the shards does not spell any; take a task without text",
         kind->name,
         place.tokenizer->name());
  }
  return kind->make(place);
}

int64_t MostTargetsOf(const TaskPlace& place) {
  const TaskKind* kind = FindTaskKind(place.spec.kind);
  return kind == nullptr || (kind->is_text && place.tokenizer == nullptr) ? place.sequence_length
                                                                          : MakeTask(place)->MostTargets();
}

}  // namespace ksa
