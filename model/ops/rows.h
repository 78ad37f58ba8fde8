// Operations on leading or trailing rows: slices, stacks, the residual sum, and the annealing mix.
#pragma once

#include "model/autograd/tape.h"

namespace ksa {

// Rows [first, first + count) of x, sharing its memory. The gradient goes into the same rows of x's. Tensor axis: any
// but Partial, passed on; of rows in parts (Sharded(0)) these are rows of this rank's part.
[[nodiscard]] Var Rows(const ExecContext& cx, const Var& x, int64_t first, int64_t count);

// The rows of x [n, d] that `selection` names (kernels/copy/select_rows.h), copied: [m, d]. The gradient goes into
// these rows, the others get 0. Tensor axis: any but Partial, or Entered, passed on.
[[nodiscard]] Var SelectRows(const ExecContext& cx, const Var& x, const Tensor& rows, int64_t first_row);

// a [n, d], then b [m, d] -> [n + m, d]. Tensor axis: any but Partial, the same for both.
[[nodiscard]] Var StackRows(const ExecContext& cx, const Var& a, const Var& b);

// x [n, d] + delta [p, d], p <= n: delta is added to the first p rows; the others pass unchanged (rows that skip a
// block). Tensor axis: both Replicated or both Sharded(0).
[[nodiscard]] Var AddRows(const ExecContext& cx, const Var& x, const Var& delta);

// Rows [first, n) of the result are a·own + (1 - a)·base, with base [n - first, d]; rows [0, first) are own's.
// Tensor axis: any but Partial, the same for both.
[[nodiscard]] Var MixRows(const ExecContext& cx, const Var& own, const Var& base, int64_t first, double a);

}  // namespace ksa
