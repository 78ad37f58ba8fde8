// One transformer block of the Qwen3 kind: x + attention(norm(x)), then x + mlp(norm(x)), on segregated rows.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

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
  SummaryLayout layout;
  AttentionWindow window;
  SummaryRole role = SummaryRole::kAttend;
  double mix = 1.0;       // weight of the summaries' own projections against the base ones
  TensorView rope_table;  // [positions, e/2, 2]
  int head_dim = 0;
  double eps = 1e-6;
};

// x [n, d] -> [n, d], or [text rows, d] with kKeysOnly. Tensor axis: Replicated in and out.
[[nodiscard]] Var AttentionBlock(const ExecContext& cx,
                                 const Var& x,
                                 const AttentionWeights& weights,
                                 const BlockSpec& spec);

// x [n, d] -> [n, d]; only the first `active_rows` rows run through the MLP.
[[nodiscard]] Var MlpBlock(
    const ExecContext& cx, const Var& x, const MlpWeights& weights, int64_t active_rows, double eps);

}  // namespace ksa
