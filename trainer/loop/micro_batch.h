// A slice of a batch as the model takes it.
#pragma once

#include <cstdint>

#include "data/loader/batch.h"
#include "model/autograd/context.h"
#include "model/ksa/model.h"

namespace ksa {

struct MicroBatch {
  Tensor ids;      // [samples · T] int32
  Tensor targets;  // [samples · T] int32, < 0: none
  SummaryLayout layout;
};

// Samples [first, first + count) of `batch`, which must outlive the result (its chunk arrays are not copied).
[[nodiscard]] MicroBatch Slice(
    const ExecContext& cx, const ModelConfig& model, const Batch& batch, int32_t first, int32_t count);

}  // namespace ksa
