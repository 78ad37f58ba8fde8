// RMSNorm of each head, then a gate: y = weight · x · rsqrt(mean(x²) + eps) · SiLU(z).
//
// Shapes: n rows, h heads, e head dim. One weight for all heads.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct GatedNormForwardArgs {
  TensorView x;       // [n, h, e]
  TensorView z;       // [n, h, e]
  TensorView weight;  // [e]
  TensorView y;       // [n, h, e] out; may be z
  double eps = 1e-6;
};

void GatedNormForward(const GatedNormForwardArgs& args, const Stream& stream);

struct GatedNormBackwardArgs {
  TensorView x;          // [n, h, e]
  TensorView z;          // [n, h, e]
  TensorView weight;     // [e]
  TensorView dy;         // [n, h, e]
  TensorView dx;         // [n, h, e] out; may be dy
  TensorView dz;         // [n, h, e] out
  TensorView dweight{};  // [e] accumulation type, or empty: not wanted
  double eps = 1e-6;
  bool accumulate = true;          // add to dweight, or write it
  Allocator* allocator = nullptr;  // of scratch, which a GPU needs
};

void GatedNormBackward(const GatedNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa
