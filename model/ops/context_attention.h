// Attention whose sequences are spread over the ranks of the context axis.
//
// Summary queries see their own chunk alone and need no other rank. Text queries do, in one of two ways:
//
//   kKeys    the keys and values that the rank's text sees come to it: the text of the window before each of its slices
//            (all earlier text in full layers), and all live summaries in layers whose text sees them
//   kHeads   the rank gets a share of the heads of all ranks' rows, attends to whole sequences, and the outputs go back
//            (all-to-all before and after; "Ulysses", arXiv 2309.14509)
//
// Keys travel while the caller computes queries; gradients of keys travel while it runs the backward of queries. Which
// rows travel, and their number: parallel/context/keys_plan.h.
#pragma once

#include <memory>

#include "kernels/core/summary_layout.h"
#include "model/autograd/tape.h"

namespace ksa {

enum class ContextMethod : int {
  kAuto,  // kHeads in full layers whose heads divide among the ranks, else kKeys
  kKeys,
  kHeads,
};

struct ContextAttentionSpec {
  SummaryLayout whole;  // of whole sequences; this rank has the rows of MakeLocalLayout(whole, ...)
  AttentionWindow window;
  int head_dim = 0;
  ContextMethod method = ContextMethod::kAuto;
};

// Whether sequences are spread: the context axis has more than one rank.
[[nodiscard]] bool IsContextParallel(const ExecContext& cx);

// Keys and values on their way, between the two operations and their backward passes. Internal.
class ContextKeys;

// k and v [nk_l, g·e], all rows of the rank or its text alone, begin to travel. `heads`: of the queries that will come.
// Every call is followed by one ContextAttention, with no other between the two.
[[nodiscard]] std::shared_ptr<ContextKeys> StartContextKeys(
    const ExecContext& cx, const Var& k, const Var& v, int64_t heads, const ContextAttentionSpec& spec);

// q [nq_l, h·e], all rows of the rank or its text alone -> [nq_l, h·e]. Placement and recompute as for Attention: the
// output and its log-sum-exp are kept, keys travel again.
[[nodiscard]] Var ContextAttention(const ExecContext& cx, const Var& q, const std::shared_ptr<ContextKeys>& keys);

}  // namespace ksa
