#include "trainer/evaluate/evaluation_sums.h"

#include <cmath>

#include "kernels/core/error.h"
#include "kernels/core/gpu.h"

namespace ksa {
namespace {

void AddAll(Communicator& world, const char* what, std::vector<double>& values) {
  const TensorView view = {values.data(), DType::kF64, {}, {static_cast<int64_t>(values.size())}};
  world.AllReduceSum(what, view, Stream{});
}

}  // namespace

void EvaluationSums::AddTarget(int64_t sample, int64_t position, double target_loss) {
  ++targets;
  position_loss[static_cast<size_t>(position)] += target_loss;
  ++position_targets[static_cast<size_t>(position)];
  sample_loss[static_cast<size_t>(sample)] += target_loss;
  ++sample_targets[static_cast<size_t>(sample)];
}

void EvaluationSums::Append(const EvaluationSums& other) {
  KSA_CHECK(position_loss.size() == other.position_loss.size(),
            "losses at {} positions and at {}",
            position_loss.size(),
            other.position_loss.size());
  loss += other.loss;
  targets += other.targets;
  for (size_t i = 0; i < position_loss.size(); ++i) {
    position_loss[i] += other.position_loss[i];
    position_targets[i] += other.position_targets[i];
  }
  sample_loss.insert(sample_loss.end(), other.sample_loss.begin(), other.sample_loss.end());
  sample_targets.insert(sample_targets.end(), other.sample_targets.begin(), other.sample_targets.end());
}

void EvaluationSums::AddAllRanks(Communicator& world) {
  loss = world.Sum(loss);
  targets = world.Sum(targets);
  AddAll(world, "validation loss by position", position_loss);
  AddAll(world, "validation targets by position", position_targets);
  AddAll(world, "validation loss by sample", sample_loss);
  AddAll(world, "validation targets by sample", sample_targets);
}

std::optional<double> EvaluationSums::StandardError() const {
  const double mean = MeanLoss();
  double samples = 0;
  double squares = 0;
  for (size_t i = 0; i < sample_loss.size(); ++i) {
    if (sample_targets[i] > 0) {
      const double difference = sample_loss[i] - mean * sample_targets[i];
      squares += difference * difference;
      samples += 1;
    }
  }
  if (samples < 2) {
    return std::nullopt;
  }
  return std::sqrt(samples / (samples - 1) * squares) / static_cast<double>(targets);
}

}  // namespace ksa
