// SwiGLU: y = silu(gate) · up, silu(x) = x / (1 + exp(-x)) (Shazeer 2020). Shapes: n rows, f feed-forward dim.
#pragma once

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct SwigluForwardArgs {
  TensorView gate;  // [n, f]
  TensorView up;    // [n, f]
  TensorView y;     // [n, f] out
};

void SwigluForward(const SwigluForwardArgs& args, const Stream& stream);

struct SwigluBackwardArgs {
  TensorView dy;     // [n, f]
  TensorView gate;   // [n, f]
  TensorView up;     // [n, f]
  TensorView dgate;  // [n, f] out, may alias dy or gate
  TensorView dup;    // [n, f] out, may alias up
};

void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream);

}  // namespace ksa
