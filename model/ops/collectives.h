// Collectives over the tensor axis, as operations with a stated meaning for the gradient. On an axis of size 1 they
// move nothing and only change the placement, so that leaving one out is an error in every test.
#pragma once

#include "model/autograd/tape.h"

namespace ksa {

// Before column-parallel products: forward the identity, backward an all-reduce. Replicated -> Entered.
[[nodiscard]] Var TensorEnter(const ExecContext& cx, const Var& x);

// After row-parallel products: forward an all-reduce, backward the identity. Partial -> Replicated.
[[nodiscard]] Var TensorReduce(const ExecContext& cx, const Var& x);

}  // namespace ksa
