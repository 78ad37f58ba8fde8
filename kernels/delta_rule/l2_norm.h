// Rows of heads scaled to length 1: y = x · rsqrt(sum(x²) + 1e-6). The small number stands beside the sum, not the
// mean, as flash-linear-attention and Hugging Face's Gated DeltaNet have it.
//
// Shapes: n rows, h heads, e head dim.
#pragma once

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct L2NormForwardArgs {
  TensorView x;  // [n, h, e]
  TensorView y;  // [n, h, e] out; may be x
};

void L2NormForward(const L2NormForwardArgs& args, const Stream& stream);

struct L2NormBackwardArgs {
  TensorView x;   // [n, h, e]
  TensorView dy;  // [n, h, e]
  TensorView dx;  // [n, h, e] out; may be dy
};

void L2NormBackward(const L2NormBackwardArgs& args, const Stream& stream);

}  // namespace ksa
