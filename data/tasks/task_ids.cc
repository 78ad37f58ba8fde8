#include "data/tasks/task_ids.h"

#include "kernels/core/error.h"

namespace ksa {

void CheckTaskIds(const TaskPlace& place, int64_t count, const char* what) {
  if (kFirstKeyId + count > place.vocab_size) {
    Fail(
        ExitCode::kBadData,
        "task {}: ids 0 to 2 and {} {} need a vocabulary of {}, but model.vocab_size is {}; raise it, or ask for fewer",
        place.spec.kind,
        count,
        what,
        kFirstKeyId + count,
        place.vocab_size);
  }
}

void CheckTaskLength(const TaskPlace& place, int64_t needed, const char* what) {
  if (needed > place.sequence_length) {
    Fail(ExitCode::kConfig,
         "task {}: a sample has {} rows ({}), but the sequence has {} tokens; make the sample smaller, "
         "or the sequence longer (training.sequence_length; --lengths of ksa eval)",
         place.spec.kind,
         needed,
         what,
         place.sequence_length);
  }
}

TaskIds TaskIdsOf(const TaskPlace& place) {
  const int64_t left = place.vocab_size - kFirstKeyId;
  TaskIds ids;
  ids.keys = place.spec.Integer("keys", left / 2);
  ids.values = place.spec.Integer("values", left - ids.keys);
  if (ids.keys < 1 || ids.values < 1) {
    Fail(ExitCode::kBadData,
         "task {}: of a vocabulary of {} there are {} keys and {} values left behind ids 0 to 2; it needs one of each, "
         "raise model.vocab_size or ask for fewer",
         place.spec.kind,
         place.vocab_size,
         ids.keys,
         ids.values);
  }
  CheckTaskIds(place, ids.keys + ids.values, "keys and values");
  return ids;
}

RandomFiller::RandomFiller(const TaskIds& ids, const std::vector<int32_t>& own)
    : ids_(ids), own_(static_cast<size_t>(ids.keys)) {
  for (const int32_t key : own) {
    own_[static_cast<size_t>(key)] = 1;
  }
}

}  // namespace ksa
