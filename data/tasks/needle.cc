// One (key, value) pair at some depth of random filler, and at the end its key: the value is the target.
#include <cmath>

#include "data/tasks/kinds.h"
#include "data/tasks/task_ids.h"

namespace ksa {
namespace {

constexpr int64_t kTail = 2;  // ask, key

class Needle final : public Task {
 public:
  Needle(const TaskIds& ids, std::vector<double> depths, int64_t length)
      : ids_(ids), depths_(std::move(depths)), length_(length) {}

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    const int64_t last = length_ - kTail - 2;  // row at which the deepest pair begins
    const double depth = depths_.empty()
                             ? random.Open()
                             : depths_[static_cast<size_t>(random.Below(static_cast<int64_t>(depths_.size())))];
    const auto row = static_cast<size_t>(std::llround(depth * static_cast<double>(last)));
    const auto key = static_cast<int32_t>(random.Below(ids_.keys));
    const int32_t value = ids_.Value(random.Below(ids_.values));
    const RandomFiller filler(ids_, {key});
    for (int32_t& id : sample.inputs) {
      id = filler.Draw(random);
    }
    sample.inputs[row] = ids_.Key(key);
    sample.inputs[row + 1] = value;
    const auto end = static_cast<size_t>(length_ - 1);
    sample.inputs[end - 1] = kAskId;
    sample.inputs[end] = ids_.Key(key);
    sample.targets[end] = value;
    // Depths that are drawn evenly are counted by tenths.
    const double counted = depths_.empty() ? std::round(depth * 10) / 10 : depth;
    sample.answers.push_back({static_cast<int32_t>(end), 1, {counted}});
  }

  [[nodiscard]] int64_t MostTargets() const override { return 1; }

 private:
  TaskIds ids_;
  std::vector<double> depths_;  // empty: all, evenly
  int64_t length_;
};

std::unique_ptr<Task> Make(const TaskPlace& place) {
  const TaskIds ids = TaskIdsOf(place);
  CheckTaskLength(place, 2 + kTail, "a pair, the ask token and the key");
  return std::make_unique<Needle>(ids, place.spec.List("depth", {}), place.sequence_length);
}

}  // namespace

TaskKind NeedleKind() {
  return {"needle",
          {{.name = "depth", .type = TaskKey::Type::kFractions, .least = 0, .most = 1, .default_text = "uniform"},
           {.name = "keys", .default_text = "half of the vocabulary left"},
           {.name = "values", .default_text = "the rest"}},
          {"depth"},
          false,
          Make};
}

}  // namespace ksa
