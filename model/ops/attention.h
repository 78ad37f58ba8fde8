// Softmax attention on segregated rows; see kernels/attention/attention.h.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/autograd/tape.h"

namespace ksa {

struct AttentionSpec {
  SummaryLayout layout;
  AttentionWindow window;
  int head_dim = 0;
};

// q [nq, h·e], k [nk, g·e], v [nk, g·c] -> [nq, h·c]. Tensor axis: Sharded(1) (whole heads), passed on. Inside a
// recomputed block the output and its log-sum-exp are kept, so that attention never runs forward twice.
[[nodiscard]] Var Attention(const ExecContext& cx, const Var& q, const Var& k, const Var& v, const AttentionSpec& spec);

// Raises ExecContext::largest_attention, where there is one, to the largest log-sum-exp of some rows.
void NoteLargest(const ExecContext& cx, const TensorView& lse);

}  // namespace ksa
