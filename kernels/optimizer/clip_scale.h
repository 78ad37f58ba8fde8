// The factor that clips gradients to a global norm, and whether an update may be applied at all; computed where the
// sums lie, so that no host waits for them.
#pragma once

#include <limits>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct ClipScaleArgs {
  TensorView stats;  // [2] fp64: the loss sum, the sum of squares of all gradients
  TensorView
      scale;  // [1] fp64 out: min(1, clip / (norm + 1e-6)), as PyTorch has it; NaN when loss or norm is not finite
  double clip = 0.0;                                           // largest norm; 0: no clipping, a factor of 1
  double most_norm = std::numeric_limits<double>::infinity();  // above it the scale is NaN as well
};

void ClipScale(const ClipScaleArgs& args, const Stream& stream);

}  // namespace ksa
