// mqar: multi-query associative recall as in Zoology (Arora et al. 2023): P (key, value) pairs, then every key once, at
// gaps of a power law, its value the target. forgetting: keys are assigned several times, and the newest value counts.
#include <algorithm>
#include <cmath>

#include "data/tasks/kinds.h"
#include "data/tasks/task_ids.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr double kPairs = 16;
constexpr double kPower = 0.01;
constexpr int64_t kWrites = 2;

class Mqar final : public Task {
 public:
  struct Shape {
    TaskIds ids;
    std::vector<double> pairs;  // the numbers of pairs, one of which a sample has
    int64_t writes = 1;         // assignments a key
    double power = kPower;
    bool random_filler = true;
    int64_t length = 0;
  };

  explicit Mqar(Shape shape) : shape_(std::move(shape)) {}

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    const auto pairs = static_cast<int64_t>(
        shape_.pairs[static_cast<size_t>(random.Below(static_cast<int64_t>(shape_.pairs.size())))]);
    const std::vector<int32_t> keys = random.Distinct(shape_.ids.keys, pairs);
    std::vector<int64_t> written(keys.size());  // rows of the newest assignments
    std::vector<int64_t> values(keys.size(), -1);
    WritePairs(random, keys, sample, written, values);
    const int64_t context = 2 * pairs * shape_.writes;
    Fill(random, keys, context, sample);
    const std::vector<int64_t> gaps = DrawGaps(random, (shape_.length - context) / 2, pairs);
    for (size_t i = 0; i < keys.size(); ++i) {
      const int64_t row = context + 2 * gaps[i];
      sample.inputs[static_cast<size_t>(row)] = shape_.ids.Key(keys[i]);
      sample.targets[static_cast<size_t>(row)] = shape_.ids.Value(values[i]);
      sample.answers.push_back(
          {static_cast<int32_t>(row), 1, {static_cast<double>(pairs), static_cast<double>(row - written[i])}});
    }
  }

  [[nodiscard]] int64_t MostTargets() const override {
    return static_cast<int64_t>(*std::max_element(shape_.pairs.begin(), shape_.pairs.end()));
  }

 private:
  // The assignments, in a random order. Values of different keys differ where each is assigned once; a key's next value
  // differs from the one before.
  void WritePairs(SampleRandom& random,
                  const std::vector<int32_t>& keys,
                  TaskSample& sample,
                  std::vector<int64_t>& written,
                  std::vector<int64_t>& values) const {
    const auto pairs = static_cast<int64_t>(keys.size());
    std::vector<int32_t> order;
    for (int64_t write = 0; write < shape_.writes; ++write) {
      for (int32_t key = 0; key < pairs; ++key) {
        order.push_back(key);
      }
    }
    random.Shuffle(order);
    const bool once = shape_.writes == 1;
    const std::vector<int32_t> different = once ? random.Distinct(shape_.ids.values, pairs) : std::vector<int32_t>();
    for (size_t slot = 0; slot < order.size(); ++slot) {
      const auto key = static_cast<size_t>(order[slot]);
      int64_t& value = values[key];
      if (once) {
        value = different[key];
      } else if (value < 0) {
        value = random.Below(shape_.ids.values);
      } else {
        const int64_t other = random.Below(shape_.ids.values - 1);
        value = other < value ? other : other + 1;
      }
      written[key] = static_cast<int64_t>(2 * slot);
      sample.inputs[2 * slot] = shape_.ids.Key(keys[key]);
      sample.inputs[2 * slot + 1] = shape_.ids.Value(value);
    }
  }

  void Fill(SampleRandom& random, const std::vector<int32_t>& keys, int64_t first, TaskSample& sample) const {
    if (!shape_.random_filler) {
      return;
    }
    const RandomFiller filler(shape_.ids, keys);
    for (auto row = static_cast<size_t>(first); row < sample.inputs.size(); ++row) {
      sample.inputs[row] = filler.Draw(random);
    }
  }

  // `count` different gaps of [0, slots), one after the other in proportion to (gap + 1)^(power - 1): the order in
  // which exponential clocks of these rates ring.
  [[nodiscard]] std::vector<int64_t> DrawGaps(SampleRandom& random, int64_t slots, int64_t count) const {
    std::vector<std::pair<double, int64_t>> rings;
    for (int64_t gap = 0; gap < slots; ++gap) {
      const double slowness = std::pow(static_cast<double>(gap + 1), 1.0 - shape_.power);
      rings.emplace_back(-std::log(random.Open()) * slowness, gap);
    }
    std::partial_sort(rings.begin(), rings.begin() + count, rings.end());
    std::vector<int64_t> gaps;
    for (int64_t i = 0; i < count; ++i) {
      gaps.push_back(rings[static_cast<size_t>(i)].second);
    }
    return gaps;
  }

  Shape shape_;
};

std::unique_ptr<Task> MakeWith(const TaskPlace& place, int64_t writes) {
  const TaskSpec& spec = place.spec;
  Mqar::Shape shape = {.ids = TaskIdsOf(place),
                       .pairs = spec.List("pairs", {kPairs}),
                       .writes = writes,
                       .power = spec.Number("power", kPower),
                       .random_filler = spec.Integer("filler", 0) == 0,
                       .length = place.sequence_length};
  const auto most = static_cast<int64_t>(*std::max_element(shape.pairs.begin(), shape.pairs.end()));
  CheckTaskLength(place, 2 * most * writes + 2 * most, "the pairs, and as many questions of two");
  const int64_t values = writes == 1 ? most : 2;
  if (most > shape.ids.keys || values > shape.ids.values) {
    const bool given = spec.Has("keys") || spec.Has("values");
    Fail(given ? ExitCode::kConfig : ExitCode::kBadData,
         "task {}: {} pairs need as many different keys and {} different values; there are {} and {}: lower pairs, or "
         "raise {}",
         spec.kind,
         most,
         values,
         shape.ids.keys,
         shape.ids.values,
         given ? "keys and values" : "model.vocab_size");
  }
  return std::make_unique<Mqar>(std::move(shape));
}

std::unique_ptr<Task> MakeMqar(const TaskPlace& place) {
  return MakeWith(place, 1);
}

std::unique_ptr<Task> MakeForgetting(const TaskPlace& place) {
  return MakeWith(place, place.spec.Integer("writes", kWrites));
}

std::vector<TaskKey> MqarKeys() {
  return {{.name = "pairs", .type = TaskKey::Type::kIntegers, .default_text = "16"},
          {.name = "keys", .default_text = "half of the vocabulary left"},
          {.name = "values", .default_text = "the rest"},
          {.name = "power", .type = TaskKey::Type::kNumber, .least = 0, .most = 1, .default_text = "0.01"},
          {.name = "filler", .type = TaskKey::Type::kWord, .words = {"random", "pad"}, .default_text = "random"}};
}

}  // namespace

TaskKind MqarKind() {
  return {"mqar", MqarKeys(), {"pairs", "distance"}, false, MakeMqar};
}

TaskKind ForgettingKind() {
  std::vector<TaskKey> keys = MqarKeys();
  keys.push_back({.name = "writes", .least = 2, .default_text = "2"});
  return {"forgetting", std::move(keys), {"pairs"}, false, MakeForgetting};
}

}  // namespace ksa
