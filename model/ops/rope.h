// Per-head norm and rotary embedding of queries or keys.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

struct QkNormRopeSpec {
  SummaryLayout layout;
  int64_t first_row = 0;                // row of the layout that row 0 of x is
  int64_t split = 0;                    // first row of x that uses weight_summary
  Parameter* weight = nullptr;          // [e]; null: no norm
  Parameter* weight_summary = nullptr;  // [e]; null: `weight` for all rows
  TensorView table;                     // [positions, e/2, 2] of FillRopeTable
  int head_dim = 0;
  double eps = 1e-6;
};

// x [n, heads · e] -> the same shape. Tensor axis: Sharded(1) (whole heads), passed on; the weights, used on a rank's
// own heads, have gradients that are partial there.
[[nodiscard]] Var QkNormRope(const ExecContext& cx, const Var& x, const QkNormRopeSpec& spec);

}  // namespace ksa
