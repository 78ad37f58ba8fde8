// Loss on held-out data, without gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "data/loader/dataset.h"
#include "model/ksa/model.h"
#include "trainer/evaluate/evaluation_sums.h"
#include "trainer/observe/validation_result.h"
#include "trainer/step/micro_batch.h"
#include "trainer/step/runtime.h"

namespace ksa {

// Forward passes without gradients, a batch at a time.
class BatchEvaluator {
 public:
  // Both must outlive it.
  BatchEvaluator(Runtime& runtime, KsaModel& model) : runtime_(runtime), model_(model) {}

  // What a pass says of a target of this rank's rows.
  struct TargetResult {
    int64_t sample = 0;    // of the batch
    int64_t position = 0;  // row of the sequence
    double loss = 0.0;
    double margin = 0.0;  // LinearCrossEntropyArgs::margin, where it was asked for
  };

  using Visit = std::function<void(const TargetResult& result)>;

  // A pass over this rank's batch; returns the sum of the losses. `margins`: these are asked for. `mix`: AnnealMix.
  double Run(const Batch& batch, double mix, bool margins, const Visit& visit);

  // Adds the losses of this rank's batch to `sums`, which are for its sequence length. Its first sample is number
  // `first` of those of `sums`. `mix`: AnnealMix.
  void Add(const Batch& batch, int64_t first, double mix, EvaluationSums& sums);

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

  // `samples` of validation source `source`, shared by the data ranks. `mix`: AnnealMix. None when it was interrupted.
  [[nodiscard]] std::optional<EvaluationSums> Run(size_t source,
                                                  const EvenSamples& samples,
                                                  double mix,
                                                  const Interrupted& interrupted = {});

  // Every validation source, in order: of each min(wanted, N) samples, all N where `wanted` is none. None when it was
  // interrupted.
  [[nodiscard]] std::optional<std::vector<ValidationResult>> RunAll(std::optional<int64_t> wanted,
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
