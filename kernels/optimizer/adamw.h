// AdamW with decoupled weight decay (Loshchilov and Hutter 2019), PyTorch's order of operations, over flat ranges.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct AdamWArgs {
  TensorView weight;      // [n] master weights, accumulation type, in and out
  TensorView grad;        // [n] accumulation type
  TensorView exp_avg;     // [n] in and out
  TensorView exp_avg_sq;  // [n] in and out
  TensorView compute{};   // [n] bf16 copy of the weight, out; empty when the master weights are the compute weights
  // [1] fp64: the clipping factor (ClipScale), so that the gradient used is grad_scale · grad. Empty: 1. Where it is
  // not finite nothing is written: the update is skipped.
  TensorView grad_scale{};
  double lr = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.0;  // 0 for parameters that do not decay
  int64_t step = 1;           // updates count from 1 (bias correction)
};

void AdamW(const AdamWArgs& args, const Stream& stream);

}  // namespace ksa
