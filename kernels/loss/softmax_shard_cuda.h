// Softmax, loss and gradient of rows of logits of which a GPU holds some columns, the ids of one part of a vocabulary:
// first what the parts tell each other of each row, then the rest.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa::cuda {

struct SoftmaxShardArgs {
  TensorView logits;         // [n, v] fp32
  const int32_t* targets;    // [n] ids; < 0: no target, loss and gradient 0; >= vocabulary: NaN
  TensorView stats;          // [parts, n, 3] fp32: a row's largest logit, sum of exponentials, target's logit or 0
  float* losses;             // [n] out: those of the whole vocabulary
  float* largest = nullptr;  // [n] out: the largest logit of all parts, -infinity without a target; or null
  TensorView gradient;       // [n, v] out, bf16, or fp32: may be `logits` itself; empty: the losses alone
  int64_t first_id = 0;      // of column 0
  int64_t vocabulary = 0;
  int part = 0;
  float scale = 1.0F;  // gradient = scale · (softmax(row) - onehot(target))
};

// Writes stats[part].
void ShardStatistics(const SoftmaxShardArgs& args, const Stream& stream);

// Joins all stats in the order of the parts and writes losses and gradient.
void FinishShard(const SoftmaxShardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
