// A span of random symbols at the beginning, filler, and at the end the span again, symbol by symbol.
#include "data/tasks/kinds.h"
#include "data/tasks/task_ids.h"

namespace ksa {
namespace {

constexpr int64_t kSpan = 32;
constexpr int64_t kSymbols = 64;

class CopySpan final : public Task {
 public:
  CopySpan(int64_t span, int64_t symbols, int64_t length) : span_(span), symbols_(symbols), length_(length) {}

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    const auto span = static_cast<size_t>(span_);
    const auto again = static_cast<size_t>(length_ - span_);
    for (size_t i = 0; i < span; ++i) {
      sample.inputs[i] = static_cast<int32_t>(kFirstKeyId + random.Below(symbols_));
    }
    sample.inputs[span] = kEndId;
    sample.inputs[again] = kAskId;
    for (size_t i = 0; i < span; ++i) {
      sample.targets[again + i] = sample.inputs[i];
      if (i + 1 < span) {
        sample.inputs[again + i + 1] = sample.inputs[i];
      }
      sample.answers.push_back({static_cast<int32_t>(again + i), 1, {static_cast<double>(i)}});
    }
  }

  [[nodiscard]] int64_t MostTargets() const override { return span_; }

 private:
  int64_t span_;
  int64_t symbols_;
  int64_t length_;
};

std::unique_ptr<Task> Make(const TaskPlace& place) {
  const int64_t span = place.spec.Integer("span", kSpan);
  const int64_t symbols = place.spec.Integer("symbols", kSymbols);
  CheckTaskIds(place, symbols, "symbols");
  CheckTaskLength(place, 2 * span + 1, "the span, its end, and the span again");
  return std::make_unique<CopySpan>(span, symbols, place.sequence_length);
}

}  // namespace

TaskKind CopyKind() {
  return {"copy",
          {{.name = "span", .default_text = "32"}, {.name = "symbols", .default_text = "64"}},
          {"position"},
          false,
          Make};
}

}  // namespace ksa
