// The output matrix and the cross-entropy in one, without [n, v] logits.
#pragma once

#include <utility>

#include "kernels/loss/linear_cross_entropy.h"
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
// The gradients are those of grad_scale · loss_sum and are computed in the same pass (the loss is the root: its
// gradient is 1), which saves computing the logits twice: start Backward at the result with an empty gradient. A head
// that is not trained gets none.
struct LossOptions {
  double grad_scale = 1.0;
  Tensor loss_sum{};
  LossWeights weights{};  // kernels/loss/linear_cross_entropy.h
  Tensor teacher{};       // [n, d] the rows of the teacher, where x lies; empty: none
  Tensor term_sums{};     // [3] fp64, added to: the terms without their weights; or empty
  Tensor largest{};       // [1] fp64, raised to the largest logit; or empty
  bool margins = false;   // CrossEntropyResult::margin is asked for, without a tape and further terms
  int64_t most_rows = 0;  // memory is taken for so many rows if x has fewer
};

[[nodiscard]] CrossEntropyResult LinearCrossEntropyLoss(
    const ExecContext& cx, const Var& x, Parameter& head, const Tensor& targets, LossOptions options);

// Cross-entropy alone.
[[nodiscard]] inline CrossEntropyResult LinearCrossEntropyLoss(const ExecContext& cx,
                                                               const Var& x,
                                                               Parameter& head,
                                                               const Tensor& targets,
                                                               double grad_scale,
                                                               Tensor loss_sum = {}) {
  return LinearCrossEntropyLoss(
      cx, x, head, targets, LossOptions{.grad_scale = grad_scale, .loss_sum = std::move(loss_sum)});
}

}  // namespace ksa
