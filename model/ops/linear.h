// y = x W^T, with weights of their own for summary rows.
#pragma once

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

// Rows [0, split) of x [n, in] are multiplied by `weight` [out, in], rows [split, n) by `weight_summary`, or by
// `weight` too when that is null. Tensor axis: weight Sharded(0) (column parallel) takes Entered x and gives
// Sharded(1); weight Sharded(1) (row parallel) takes Sharded(1) x and gives Partial; a Replicated weight takes and
// gives Replicated, or Entered where its gradient is partial.
[[nodiscard]] Var SplitLinear(
    const ExecContext& cx, const Var& x, int64_t split, Parameter& weight, Parameter* weight_summary);

[[nodiscard]] inline Var Linear(const ExecContext& cx, const Var& x, Parameter& weight) {
  return SplitLinear(cx, x, x.rows(), weight, nullptr);
}

// The same where nobody reads the value, which is not computed: what runs again for its backward pass alone.
[[nodiscard]] Var UnreadLinear(const ExecContext& cx, const Var& x, Parameter& weight);

}  // namespace ksa
