// Loss on held-out data, without gradients.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/loader/dataset.h"
#include "model/ksa/model.h"
#include "trainer/loop/micro_batch.h"
#include "trainer/loop/runtime.h"

namespace ksa {

// Sums over one source; the same on every rank.
struct EvaluationSums {
  double loss = 0.0;  // natural logarithm, summed over targets
  int64_t targets = 0;
  std::vector<double> position_loss;     // [T]: by row of the sequence
  std::vector<double> position_targets;  // [T]

  [[nodiscard]] double MeanLoss() const { return targets > 0 ? loss / static_cast<double>(targets) : 0.0; }
};

class Evaluator {
 public:
  // All must outlive it. `micro_batch_size`: samples a forward pass.
  Evaluator(Runtime& runtime, KsaModel& model, const Dataset& dataset, int32_t micro_batch_size);

  // The first `samples` samples of validation source `source`, spread over the data ranks. `mix`: AnnealMix.
  [[nodiscard]] EvaluationSums Run(size_t source, int64_t samples, double mix);

  // Mean loss of every validation source by name: of each its first min(batches · global_batch_size, N) samples.
  [[nodiscard]] std::map<std::string, double> RunAll(int64_t batches, int64_t global_batch_size, double mix);

 private:
  void AddBatch(const Batch& batch, double mix, EvaluationSums& sums);

  Runtime& runtime_;
  KsaModel& model_;
  const Dataset& dataset_;
  int32_t micro_batch_size_;
  Batch batch_;
  BatchUpload upload_;
};

}  // namespace ksa
