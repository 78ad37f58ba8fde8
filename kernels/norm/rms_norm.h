// RMSNorm: y = x · rsqrt(mean(x²) + eps) · weight, row by row (Zhang and Sennrich 2019).
//
// Shapes: n rows, d model dim. Text rows and summary rows may have a weight each: rows [0, split) use `weight`, rows
// [split, n) use `weight_summary`. Leave weight_summary empty to use `weight` for all.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct RmsNormForwardArgs {
  TensorView x;                 // [n, d]
  TensorView residual{};        // [r, d], r <= n, or empty: what is normed is x + residual (in rows from r on: x) ...
  TensorView sum_out{};         // [n, d] out, with residual only: ... which is written here; may be x or residual
  TensorView weight;            // [d]
  TensorView weight_summary{};  // [d] or empty
  TensorView y;                 // [n, d] out
  TensorView rstd;              // [n] out, accumulation type; kept for backward
  int64_t split = 0;            // first row of weight_summary
  double eps = 1e-6;
};

void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream);

struct RmsNormBackwardArgs {
  TensorView dy;                 // [n, d]
  TensorView x;                  // [n, d]; with a residual in forward: sum_out
  TensorView rstd;               // [n]
  TensorView weight;             // [d]
  TensorView weight_summary{};   // [d] or empty
  TensorView dx_residual{};      // [n, d] or empty: added to dx; may be dx itself
  TensorView dx;                 // [n, d] out
  TensorView dweight{};          // [d] accumulation type, or empty: not wanted
  TensorView dweight_summary{};  // [d] accumulation type, or empty
  int64_t split = 0;
  bool accumulate = true;          // add to dweight, or write it (zeros when no row uses the weight)
  bool accumulate_summary = true;  // the same of dweight_summary
  // Of scratch for the weights' gradients on a GPU, freed before the call returns. The CPU does not use it.
  Allocator* allocator = nullptr;
};

void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa
