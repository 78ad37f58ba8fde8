// Chains of assignments: a variable gets a value, another one that variable, and so on, chains mixed. At the end a
// value is asked for, and the answer is every variable that holds it, in the order of their ids: so no answer can be
// read off the one before, and each takes as many hops as its variable is away from the value.
#include <algorithm>

#include "data/tasks/kinds.h"
#include "data/tasks/task_ids.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kChains = 2;
constexpr int64_t kHops = 4;

class VariableTracking final : public Task {
 public:
  VariableTracking(const TaskIds& ids, int64_t chains, int64_t hops, int64_t length)
      : ids_(ids), chains_(chains), hops_(hops), length_(length) {}

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    const int64_t links = hops_ + 1;
    const std::vector<int32_t> variables = random.Distinct(ids_.keys, chains_ * links);
    const std::vector<int32_t> values = random.Distinct(ids_.values, chains_);
    std::vector<int32_t> order;  // the chains, as often as each has links
    for (int64_t i = 0; i < chains_ * links; ++i) {
      order.push_back(static_cast<int32_t>(i / links));
    }
    random.Shuffle(order);
    const int64_t tail = length_ - Tail(hops_);
    std::vector<int32_t> slots = random.Distinct(tail / 2, chains_ * links);
    std::sort(slots.begin(), slots.end());
    std::vector<int64_t> done(static_cast<size_t>(chains_));
    for (size_t i = 0; i < order.size(); ++i) {
      const int64_t chain = order[i];
      const int64_t link = done[static_cast<size_t>(chain)]++;
      const auto at = static_cast<size_t>(chain * links + link);
      const auto row = static_cast<size_t>(2 * slots[i]);
      sample.inputs[row] = ids_.Key(variables[at]);
      sample.inputs[row + 1] = link == 0 ? ids_.Value(values[static_cast<size_t>(chain)]) : ids_.Key(variables[at - 1]);
    }
    Ask(random, variables, values, static_cast<size_t>(tail), sample);
  }

  [[nodiscard]] int64_t MostTargets() const override { return hops_ + 1; }

  // Rows of the question and of the answer but for its last variable, which is only a target.
  [[nodiscard]] static int64_t Tail(int64_t hops) { return 2 + hops; }

 private:
  void Ask(SampleRandom& random,
           const std::vector<int32_t>& variables,
           const std::vector<int32_t>& values,
           size_t row,
           TaskSample& sample) const {
    const int64_t chain = random.Below(chains_);
    std::vector<std::pair<int32_t, int64_t>> answers;  // variable, its hops
    for (int64_t hop = 0; hop <= hops_; ++hop) {
      answers.emplace_back(variables[static_cast<size_t>(chain * (hops_ + 1) + hop)], hop);
    }
    std::sort(answers.begin(), answers.end());
    sample.inputs[row] = kAskId;
    sample.inputs[++row] = ids_.Value(values[static_cast<size_t>(chain)]);
    for (const auto& [variable, hop] : answers) {
      sample.targets[row] = ids_.Key(variable);
      sample.answers.push_back({static_cast<int32_t>(row), 1, {static_cast<double>(hop)}});
      if (++row < sample.inputs.size()) {
        sample.inputs[row] = ids_.Key(variable);
      }
    }
  }

  TaskIds ids_;
  int64_t chains_;
  int64_t hops_;
  int64_t length_;
};

std::unique_ptr<Task> Make(const TaskPlace& place) {
  const TaskSpec& spec = place.spec;
  const int64_t chains = spec.Integer("chains", kChains);
  const int64_t hops = spec.Integer("hops", kHops);
  // Variables are the ids that the values leave.
  const int64_t left = std::max<int64_t>(0, place.vocab_size - kFirstKeyId);
  TaskIds ids;
  ids.values = spec.Integer("values", left - left / 2);
  ids.keys = left - ids.values;
  CheckTaskIds(place, chains * (hops + 1) + std::max(ids.values, chains), "variables and values");
  if (chains > ids.values) {
    Fail(ExitCode::kConfig,
         "task variable_tracking: {} chains need as many values, there are {}; raise values",
         chains,
         ids.values);
  }
  CheckTaskLength(
      place, 2 * chains * (hops + 1) + VariableTracking::Tail(hops), "two an assignment, the question, the answer");
  return std::make_unique<VariableTracking>(ids, chains, hops, place.sequence_length);
}

}  // namespace

TaskKind VariableTrackingKind() {
  return {"variable_tracking",
          {{.name = "chains", .most = 1 << 15, .default_text = "2"},
           {.name = "hops", .most = 1 << 15, .default_text = "4"},
           {.name = "values", .default_text = "half of the vocabulary left"}},
          {"hops"},
          false,
          Make};
}

}  // namespace ksa
