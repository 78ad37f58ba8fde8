// How far the target's logit is below the largest of its row, on a GPU.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa::cuda {

struct TargetMarginArgs {
  TensorView logits;       // [n, v] fp32
  const int32_t* targets;  // [n]; < 0: none, margin 0; >= v: NaN
  TensorView stats;        // of a vocabulary in parts, [parts, n, 3] of all parts, instead of logits; else empty
  float* margins;          // [n] out
};

void TargetMargin(const TargetMarginArgs& args, const Stream& stream);

}  // namespace ksa::cuda
