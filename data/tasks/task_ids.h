// The ids of a task without text: keys, then values.
#pragma once

#include <cstdint>

#include "data/tasks/task.h"

namespace ksa {

struct TaskIds {
  int64_t keys = 0;
  int64_t values = 0;

  [[nodiscard]] int32_t Key(int64_t i) const { return static_cast<int32_t>(kFirstKeyId + i); }

  [[nodiscard]] int32_t Value(int64_t i) const { return static_cast<int32_t>(kFirstKeyId + keys + i); }
};

// `keys` and `values` of the specification; where they are not given half of the vocabulary that is left, and the rest.
// Error(kBadData): the vocabulary does not hold them, or leaves none.
[[nodiscard]] TaskIds TaskIdsOf(const TaskPlace& place);

// Error(kBadData) unless the vocabulary holds `count` ids from 3 on; `what` names them.
void CheckTaskIds(const TaskPlace& place, int64_t count, const char* what);

// Error(kConfig) unless T rows hold `needed`; `what` says what they are.
void CheckTaskLength(const TaskPlace& place, int64_t needed, const char* what);

// Random filler: any key or value but the sample's own keys, so that no key is asked for twice.
class RandomFiller {
 public:
  // `own`: numbers of keys.
  RandomFiller(const TaskIds& ids, const std::vector<int32_t>& own);

  [[nodiscard]] int32_t Draw(SampleRandom& random) const {
    int64_t id = 0;
    do {
      id = random.Below(ids_.keys + ids_.values);
    } while (id < ids_.keys && own_[static_cast<size_t>(id)] != 0);
    return ids_.Key(id);
  }

 private:
  TaskIds ids_;
  std::vector<uint8_t> own_;  // [keys]
};

}  // namespace ksa
