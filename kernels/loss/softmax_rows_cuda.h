// Softmax, loss and gradient of rows of logits on a GPU.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa::cuda {

struct SoftmaxRowsArgs {
  TensorView logits;         // [n, v] fp32
  const int32_t* targets;    // [n]; < 0: no target, loss and gradient 0; >= v: NaN
  float* losses;             // [n] out: logsumexp(row) - row[target]
  float* largest = nullptr;  // [n] out: the largest logit, -infinity without a target; or null
  TensorView gradient;       // [n, v] out, bf16, or fp32: may be `logits` itself; empty: the losses alone
  float scale = 1.0F;        // gradient = scale · (softmax(row) - onehot(target))
};

// A row is read once where it fits into the shared memory of a cluster of blocks (up to 450 K elements on sm_90).
void SoftmaxRows(const SoftmaxRowsArgs& args, const Stream& stream);

}  // namespace ksa::cuda
