// Floating-point operations of an update's batches, for MFU.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "data/loader/batch.h"
#include "model/ksa/forward_counter.h"
#include "model/mixers/model_config.h"

namespace ksa {

class BatchFlops {
 public:
  // `model` must outlive it.
  explicit BatchFlops(const ModelConfig& model) : model_(model) {}

  // Of a forward pass over the batch's samples; of the head, of the rows that have a target. Without documents all else
  // of batches of one size costs the same, and the first is counted for all.
  [[nodiscard]] double Forward(const Batch& batch);

 private:
  const ModelConfig& model_;
  std::unique_ptr<ForwardCounter> counter_;  // of sequences of sequence_length_
  int32_t samples_ = 0;                      // of the batches without documents that `plain_` counts
  int32_t sequence_length_ = 0;
  std::optional<double> plain_;  // without the head
};

}  // namespace ksa
