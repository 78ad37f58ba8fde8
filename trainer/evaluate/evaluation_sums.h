// Losses of one source, summed by sample and by position.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/comm/communicator.h"

namespace ksa {

struct EvaluationSums {
  // For `samples` samples of `sequence_length` tokens.
  EvaluationSums(int32_t sequence_length, int64_t samples)
      : position_loss(static_cast<size_t>(sequence_length)),
        position_targets(position_loss.size()),
        sample_loss(static_cast<size_t>(samples)),
        sample_targets(sample_loss.size()) {}

  double loss = 0.0;  // natural logarithm, summed over targets
  int64_t targets = 0;
  std::vector<double> position_loss;     // [T]: by row of the sequence
  std::vector<double> position_targets;  // [T]
  std::vector<double> sample_loss;       // [samples]
  std::vector<double> sample_targets;    // [samples]

  // The target of row `position` of sample `sample` has this loss. `loss` itself is summed elsewhere.
  void AddTarget(int64_t sample, int64_t position, double target_loss);

  // Adds what was summed for other samples of the same length.
  void Append(const EvaluationSums& other);

  // Adds what all ranks of `world` hold; every rank calls it and has the same afterwards.
  void AddAllRanks(Communicator& world);

  [[nodiscard]] double MeanLoss() const { return targets > 0 ? loss / static_cast<double>(targets) : 0.0; }

  // Of the mean loss, in nats: sqrt(n/(n-1) · Σ (L_i - mean · t_i)²) / Σ t_i over the n samples that have targets, L_i
  // and t_i the loss and the targets of sample i. Targets of one sample depend on each other, samples hardly do. None
  // when n < 2. It says how far the text that the source was taken from may be off, so it is not 0 when every sample
  // was read.
  [[nodiscard]] std::optional<double> StandardError() const;
};

}  // namespace ksa
