// A stream of (key, value) pairs. A key keeps its value within the sequence; every value whose key came before is a
// target. In training the pool of keys in use grows with the number of the sample.
#include <algorithm>

#include "data/tasks/kinds.h"
#include "data/tasks/task_ids.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kKeys = 128;
constexpr int64_t kPoolStart = 16;

class RecallStream final : public Task {
 public:
  RecallStream(const TaskIds& ids, int64_t pool_start, int64_t pool_samples, int64_t length)
      : ids_(ids), pool_start_(pool_start), pool_samples_(pool_samples), length_(length) {}

  void Make(SampleRandom& random, int64_t number, TaskSample& sample) const override {
    std::vector<int32_t> values(static_cast<size_t>(ids_.keys), -1);  // -1: the key has not come yet
    std::vector<int64_t> last(values.size());
    const int64_t pool = Pool(number);
    for (int64_t row = 0; row < length_; row += 2) {
      const auto key = static_cast<size_t>(random.Below(pool));
      sample.inputs[static_cast<size_t>(row)] = ids_.Key(static_cast<int64_t>(key));
      if (values[key] < 0) {
        values[key] = ids_.Value(random.Below(ids_.values));
      } else {
        sample.targets[static_cast<size_t>(row)] = values[key];
        sample.answers.push_back({static_cast<int32_t>(row), 1, {static_cast<double>(row - last[key])}});
      }
      last[key] = row;
      if (row + 1 < length_) {
        sample.inputs[static_cast<size_t>(row) + 1] = values[key];
      }
    }
  }

  [[nodiscard]] int64_t MostTargets() const override { return (length_ + 1) / 2 - 1; }

 private:
  // Keys in use: from pool_start to all of them, evenly over pool_samples samples.
  [[nodiscard]] int64_t Pool(int64_t number) const {
    if (number >= pool_samples_) {
      return ids_.keys;
    }
    __extension__ using Wide = __int128;
    return pool_start_ + static_cast<int64_t>(Wide{ids_.keys - pool_start_} * number / pool_samples_);
  }

  TaskIds ids_;
  int64_t pool_start_;
  int64_t pool_samples_;
  int64_t length_;
};

std::unique_ptr<Task> Make(const TaskPlace& place) {
  const TaskSpec& spec = place.spec;
  const TaskIds ids = {spec.Integer("keys", kKeys), spec.Integer("values", kKeys)};
  CheckTaskIds(place, ids.keys + ids.values, "keys and values");
  CheckTaskLength(place, 3, "a pair, and its key again");
  const int64_t pool_start = std::min(spec.Integer("pool_start", kPoolStart), ids.keys);
  if (spec.Integer("pool_start", 1) > ids.keys) {
    Fail(ExitCode::kConfig,
         "task recall_stream: pool_start {} is more than its {} keys; lower it",
         spec.Integer("pool_start", 1),
         ids.keys);
  }
  return std::make_unique<RecallStream>(ids, pool_start, spec.Integer("pool_samples", 0), place.sequence_length);
}

}  // namespace

TaskKind RecallStreamKind() {
  return {"recall_stream",
          {{.name = "keys", .default_text = "128"},
           {.name = "values", .default_text = "128"},
           {.name = "pool_start", .default_text = "16", .training_only = true},
           {.name = "pool_samples",
            .least = 0,
            .most = 0x1p53,
            .default_text = "60 % of the source's share of the run",
            .training_only = true}},
          {"distance"},
          false,
          Make};
}

}  // namespace ksa
