#include "trainer/loop/targets.h"

#include <algorithm>

#include "data/sampling/sample_order.h"
#include "data/tasks/task.h"

namespace ksa {
namespace {

int64_t TargetsOf(const Config& config, const TaskSpec& task) {
  return task.kind.empty() ? config.training.sequence_length
                           : MostTargetsOf({.spec = task,
                                            .sequence_length = config.training.sequence_length,
                                            .vocab_size = config.model.vocab_size});
}

template <typename List>
int64_t Most(const Config& config, const List& list) {
  int64_t most = 0;
  for (const auto& source : list) {
    most = std::max(most, TargetsOf(config, source.task));
  }
  return most;
}

template <typename List>
bool HasTask(const List& list) {
  return std::any_of(list.begin(), list.end(), [](const auto& source) { return !source.task.kind.empty(); });
}

bool MayLack(const Config& config) {
  return config.data.document_mask || config.data.on_corrupt == OnCorrupt::kSkip;
}

}  // namespace

// A benchmark has no sources: every row of its samples has a target.
int64_t MostTrainingTargets(const Config& config) {
  return config.data.train.empty() ? config.training.sequence_length : Most(config, config.data.train);
}

int64_t MostEvaluationTargets(const Config& config) {
  return std::max(Most(config, config.data.validation), Most(config, config.evaluation.tasks));
}

double MeanTargets(const Config& config) {
  if (config.data.train.empty()) {
    return config.training.sequence_length;
  }
  std::vector<SourceShape> shapes;
  for (const TrainSource& source : config.data.train) {
    shapes.push_back({source.name, source.weight, {}});
  }
  const std::vector<int> shares = BlendShares(shapes);
  double targets = 0;
  for (size_t s = 0; s < shares.size(); ++s) {
    targets += static_cast<double>(TargetsOf(config, config.data.train[s].task)) * shares[s] / kBlendSlots;
  }
  return targets;
}

bool TrainingLacksTargets(const Config& config) {
  return MayLack(config) || HasTask(config.data.train);
}

bool EvaluationLacksTargets(const Config& config) {
  return MayLack(config) || HasTask(config.data.validation) || !config.evaluation.tasks.empty();
}

}  // namespace ksa
