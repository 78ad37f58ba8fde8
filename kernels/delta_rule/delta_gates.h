// The two gates of a Gated DeltaNet token (Yang, Kautz, Hatamizadeh 2024): how much of the state it keeps, and how much
// it writes.
//
//   g = -exp(A_log) · softplus(a + dt_bias)      <= 0, the logarithm of the decay
//   beta = sigmoid(b), or twice that (most 2): then an eigenvalue of the transition may be negative
//
// Shapes: n rows, h value heads. All arithmetic, g and beta in the accumulation type.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct DeltaGatesForwardArgs {
  TensorView a;        // [n, h]
  TensorView b;        // [n, h]
  TensorView a_log;    // [h]
  TensorView dt_bias;  // [h]
  TensorView g;        // [n, h] out, accumulation type
  TensorView beta;     // [n, h] out, accumulation type
  double most = 1.0;   // of beta
};

void DeltaGatesForward(const DeltaGatesForwardArgs& args, const Stream& stream);

struct DeltaGatesBackwardArgs {
  TensorView a;           // [n, h]
  TensorView b;           // [n, h]
  TensorView a_log;       // [h]
  TensorView dt_bias;     // [h]
  TensorView dg;          // [n, h]
  TensorView dbeta;       // [n, h]
  TensorView da;          // [n, h] out
  TensorView db;          // [n, h] out
  TensorView da_log{};    // [h] accumulation type, or empty: not wanted
  TensorView ddt_bias{};  // [h] accumulation type, or empty
  double most = 1.0;
  bool accumulate_a_log = true;  // add to da_log, or write it
  bool accumulate_dt_bias = true;
  Allocator* allocator = nullptr;  // of scratch, which a GPU needs
};

void DeltaGatesBackward(const DeltaGatesBackwardArgs& args, const Stream& stream);

}  // namespace ksa
