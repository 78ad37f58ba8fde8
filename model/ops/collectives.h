// Collectives over the tensor axis, as operations with a stated meaning for the gradient. On an axis of size 1 they
// move nothing and only change the placement, so that leaving one out is an error in every test.
//
// Between products every tensor rank holds all rows (Replicated) or, under sequence parallelism, its part of the text
// rows and of the summary rows (Sharded(0)); inside, all ranks work on all rows.
//
//                               all rows between products                rows in parts (sequence parallel)
//   TensorEnter   forward       identity, Replicated -> Entered          all-gather, Sharded(0) -> Entered
//                 backward      all-reduce                               reduce-scatter
//   TensorReduce  forward       all-reduce, Partial -> Replicated        reduce-scatter, Partial -> Sharded(0)
//                 backward      identity                                 all-gather
#pragma once

#include "model/autograd/tape.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// Of `rows`, what this rank holds between products: all, or its part.
[[nodiscard]] RowCounts HeldRows(const ExecContext& cx, const RowCounts& rows);

// Before column-parallel products. `rows`: of the result; x holds HeldRows of them.
[[nodiscard]] Var TensorEnter(const ExecContext& cx, const Var& x, const RowCounts& rows);

// After row-parallel products. `rows`: of x; the result holds HeldRows of them.
[[nodiscard]] Var TensorReduce(const ExecContext& cx, const Var& x, const RowCounts& rows);

}  // namespace ksa
