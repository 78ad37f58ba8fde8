// The output matrix and the cross-entropy in one, without [n, v] logits.
#pragma once

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

struct CrossEntropyResult {
  Var loss_sum;     // [1] fp64: the sum it was added to; Partial over data and context
  Tensor row_loss;  // [n] accumulation type, 0 where a row has no target
  Tensor margin;    // [n] where it was asked for: LinearCrossEntropyArgs::margin
};

// x [n, d] text rows, Entered over the tensor axis when `head` [v, d] is Sharded(0) (by vocabulary), else both are
// Replicated; targets [n] int32, < 0: none. The loss is the same on all tensor ranks, in bits.
//
// Adds the sum of this rank's losses to `loss_sum` [1] fp64, which micro-batches share and which only the end of an
// update reads; empty: to a new one that starts at 0.
//
// `margins`: asked for, without a tape. `most_rows`: memory is taken for so many rows if x has fewer.
//
// The gradients are those of grad_scale · loss_sum and are computed in the same pass (the loss is the root: its
// gradient is 1), which saves computing the logits twice: start Backward at the result with an empty gradient.
[[nodiscard]] CrossEntropyResult LinearCrossEntropyLoss(const ExecContext& cx,
                                                        const Var& x,
                                                        Parameter& head,
                                                        const Tensor& targets,
                                                        double grad_scale,
                                                        Tensor loss_sum = {},
                                                        bool margins = false,
                                                        int64_t most_rows = 0);

}  // namespace ksa
