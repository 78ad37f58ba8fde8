// RMSNorm: y = x · rsqrt(mean(x²) + eps) · weight, row by row (Zhang and Sennrich 2019).
//
// Shapes: n rows, d model dim. Text rows and summary rows may have a weight each: rows [0, split) use `weight`, rows
// [split, n) use `weight_summary`. Leave weight_summary empty to use `weight` for all.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct RmsNormForwardArgs {
  TensorView x;                 // [n, d]
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
  TensorView x;                  // [n, d]
  TensorView rstd;               // [n]
  TensorView weight;             // [d]
  TensorView weight_summary{};   // [d] or empty
  TensorView dx;                 // [n, d] out
  TensorView dweight{};          // [d] accumulation type, or empty: not wanted
  TensorView dweight_summary{};  // [d] accumulation type, or empty
  int64_t split = 0;
  bool accumulate = true;          // add to dweight, or write it (zeros when no row uses the weight)
  bool accumulate_summary = true;  // the same of dweight_summary
};

void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa
