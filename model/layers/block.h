// One transformer block of the Qwen3 kind: x + attention(norm(x)), then x + mlp(norm(x)), on segregated rows.
//
// A block takes the sum of the block before it and norms it in one pass over memory, so between blocks the residual
// stream is a pair: x and what is still to be added.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "model/ops/context_attention.h"
#include "model/ops/norm.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// A parameter of text rows and the one that summary rows use instead; null: they use the same.
struct WeightPair {
  Parameter* text = nullptr;
  Parameter* summary = nullptr;
};

struct AttentionWeights {
  WeightPair norm;           // [d]
  WeightPair q;              // [h·e, d]
  WeightPair k;              // [g·e, d]
  WeightPair v;              // [g·e, d]
  WeightPair q_norm;         // [e]; null: no norm
  WeightPair k_norm;         // [e]
  Parameter* out = nullptr;  // [d, h·e]
};

struct MlpWeights {
  Parameter* norm = nullptr;  // [d]
  Parameter* gate = nullptr;  // [f, d]
  Parameter* up = nullptr;    // [f, d]
  Parameter* down = nullptr;  // [d, f]
};

// What the summary rows of the input do in a block.
enum class SummaryRole : int {
  kAttend,    // run through it like text rows
  kKeysOnly,  // are seen by text, and end here: the output has text rows only (the last KSA layer)
  kBypass,    // skip it unchanged (or there are none)
};

struct BlockSpec {
  SummaryLayout layout;  // of the rows that are here
  SummaryLayout whole;   // of whole sequences; read where they are spread over ranks
  ContextMethod context_method = ContextMethod::kAuto;
  AttentionWindow window;
  SummaryRole role = SummaryRole::kAttend;
  double mix = 1.0;       // weight of the summaries' own projections against the base ones
  TensorView rope_table;  // [positions, e/2, 2]
  int head_dim = 0;
  double eps = 1e-6;
};

// The residual stream: x [n, d] plus `delta` [r, d], r <= n, which is added to the first rows. An empty delta is
// nothing. Tensor axis: what lies between products (model/ops/collectives.h), so n and r are HeldRows.
struct Residual {
  Var x;
  Var delta{};
};

// x + delta.
[[nodiscard]] Var Sum(const ExecContext& cx, const Residual& in);

// The norm before a block, of the first `active_rows` rows of the sum, beside the sum of all rows. Rows from `split` on
// are summaries.
[[nodiscard]] NormedSum NormOfSum(const ExecContext& cx,
                                  const Residual& in,
                                  int64_t active_rows,
                                  const WeightPair& weight,
                                  int64_t split,
                                  double eps);

// n rows in and out, or text rows out with kKeysOnly. With `recompute` only the normed rows and attention's output are
// kept for backward.
[[nodiscard]] Residual AttentionBlock(const ExecContext& cx,
                                      const Residual& in,
                                      const AttentionWeights& weights,
                                      const BlockSpec& spec,
                                      bool recompute = false);

// n rows in and out; only the `active` rows run through the MLP: all, or the text. With `recompute` only the normed
// rows are kept for backward.
[[nodiscard]] Residual MlpBlock(const ExecContext& cx,
                                const Residual& in,
                                const MlpWeights& weights,
                                const RowCounts& active,
                                double eps,
                                bool recompute = false);

}  // namespace ksa
