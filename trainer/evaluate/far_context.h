// What text from far back is worth: the loss of a sample's end, with its own beginning and with another sample's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "data/loader/batch.h"
#include "trainer/evaluate/evaluation_sums.h"

namespace ksa {

struct FarContextLoss {
  int64_t kept = 0;               // the last tokens of each sample, which stay
  int64_t targets = 0;            // the last kept/2 of each
  double loss = 0.0;              // mean of these, in nats
  double loss_replaced = 0.0;     // where what stands before the kept tokens is another sample's
  std::optional<double> error{};  // standard error of their difference, over samples; none of fewer than two
};

// Fills `batch` with `count` samples from number `first` on.
using MakeSamples = std::function<void(int64_t first, int64_t count, Batch& batch)>;

// Adds the losses of a batch whose first sample is number `first` to the sums.
using AddLosses = std::function<void(const Batch& batch, int64_t first, EvaluationSums& sums)>;

// Sample i of `samples` (>= 2) gets its beginning from sample i + samples/2, counted round, or the next one that is
// text there, not padding; without one it does not count. 2 <= `kept` < T. Batches of `batch_size` samples; they have
// no documents (Batch::chunk_tokens is empty).
[[nodiscard]] FarContextLoss MeasureFarContext(int64_t samples,
                                               int32_t sequence_length,
                                               int64_t kept,
                                               int32_t batch_size,
                                               const MakeSamples& make,
                                               const AddLosses& add);

}  // namespace ksa
