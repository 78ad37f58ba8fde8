// Loss on held-out data, without gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/dataset.h"
#include "model/ksa/model.h"
#include "trainer/step/micro_batch.h"
#include "trainer/step/runtime.h"

namespace ksa {

// Sums over one source; the same on every rank.
struct EvaluationSums {
  explicit EvaluationSums(int32_t sequence_length)
      : position_loss(static_cast<size_t>(sequence_length)), position_targets(position_loss.size()) {}

  double loss = 0.0;  // natural logarithm, summed over targets
  int64_t targets = 0;
  std::vector<double> position_loss;     // [T]: by row of the sequence
  std::vector<double> position_targets;  // [T]

  [[nodiscard]] double MeanLoss() const { return targets > 0 ? loss / static_cast<double>(targets) : 0.0; }
};

// Forward passes without gradients, a batch at a time.
class BatchEvaluator {
 public:
  // Both must outlive it.
  BatchEvaluator(Runtime& runtime, KsaModel& model) : runtime_(runtime), model_(model) {}

  // Adds the losses of this rank's batch to `sums`, which are for its sequence length. `mix`: AnnealMix.
  void Add(const Batch& batch, double mix, EvaluationSums& sums);

 private:
  Runtime& runtime_;
  KsaModel& model_;
  BatchUpload upload_;
};

class Evaluator {
 public:
  // All must outlive it. `micro_batch_size`: samples a forward pass.
  Evaluator(Runtime& runtime, KsaModel& model, const Dataset& dataset, int32_t micro_batch_size);

  // Asked before every forward pass, by all ranks the same number of times; true on one must be true on all.
  using Interrupted = std::function<bool()>;

  // The first `samples` samples of validation source `source`, spread over the data ranks. `mix`: AnnealMix. None when
  // it was interrupted.
  [[nodiscard]] std::optional<EvaluationSums> Run(size_t source,
                                                  int64_t samples,
                                                  double mix,
                                                  const Interrupted& interrupted = {});

  // Mean loss of every validation source by name: of each its first min(batches · global_batch_size, N) samples. None
  // when it was interrupted.
  [[nodiscard]] std::optional<std::map<std::string, double>> RunAll(int64_t batches,
                                                                    int64_t global_batch_size,
                                                                    double mix,
                                                                    const Interrupted& interrupted = {});

 private:
  Runtime& runtime_;
  const Dataset& dataset_;
  int32_t micro_batch_size_;
  Batch batch_;
  BatchEvaluator evaluator_;
};

}  // namespace ksa
