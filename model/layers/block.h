// One block of a transformer: x + mixer(norm(x)), then x + mlp(norm(x)), on segregated rows. The mixer is what kinds of
// layers differ in (model/mixers); the MLP is SwiGLU, or there is none.
//
// A block takes the sum of the block before it and norms it in one pass over memory, so between blocks the residual
// stream is a pair: x and what is still to be added.
#pragma once

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "model/mixers/mixer.h"
#include "model/ops/norm.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

struct MlpWeights {
  Parameter* norm = nullptr;  // [d]
  Parameter* gate = nullptr;  // [f, d]
  Parameter* up = nullptr;    // [f, d]
  Parameter* down = nullptr;  // [d, f]
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

// What runs again in backward instead of being kept: nothing of this part of a block, the part itself (only the normed
// rows are kept, and what KeptTensors lists), or the whole block around it, of which this part is the end.
enum class PartRecompute : int { kNone, kPart, kEndOfBlock };

// n rows in and out, or text rows out with kKeysOnly. `norm` [d]. `mixer` must outlive backward.
[[nodiscard]] Residual MixerBlock(const ExecContext& cx,
                                  const Residual& in,
                                  const WeightPair& norm,
                                  const BoundMixer& mixer,
                                  const MixerCall& call,
                                  double eps,
                                  PartRecompute recompute = PartRecompute::kNone);

// n rows in and out; only the `active` rows run through the MLP: all, or the text.
[[nodiscard]] Residual MlpBlock(const ExecContext& cx,
                                const Residual& in,
                                const MlpWeights& weights,
                                const RowCounts& active,
                                double eps,
                                PartRecompute recompute = PartRecompute::kNone);

}  // namespace ksa
