// RMSNorm with a weight of its own for summary rows.
#pragma once

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

// x [n, d]; rows [split, n) use `weight_summary`, or `weight` when that is null. Tensor axis: Replicated, or Sharded(0)
// (rows, under sequence parallelism) with weights whose gradient is partial there; passed on.
[[nodiscard]] Var RmsNorm(
    const ExecContext& cx, const Var& x, int64_t split, Parameter& weight, Parameter* weight_summary, double eps);

struct NormedSum {
  Var sum;
  Var normed;
};

// sum = x + delta [n, d] and RmsNorm of it in one pass over memory; the same numbers as AddRows and RmsNorm.
[[nodiscard]] NormedSum AddRmsNorm(const ExecContext& cx,
                                   const Var& x,
                                   const Var& delta,
                                   int64_t split,
                                   Parameter& weight,
                                   Parameter* weight_summary,
                                   double eps);

}  // namespace ksa
