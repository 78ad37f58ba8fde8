#include "model/layers/block.h"

#include "model/ops/attention.h"
#include "model/ops/collectives.h"
#include "model/ops/linear.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "model/ops/rows.h"
#include "model/ops/swiglu.h"

namespace ksa {
namespace {

// Normed rows -> q, k or v. Norm weights null: no q/k norm; `rope` false (v): neither norm nor rotation.
struct Projection {
  const WeightPair* weight = nullptr;
  const WeightPair* norm = nullptr;
  bool rope = false;
};

Var NormAndRope(const ExecContext& cx,
                const Var& x,
                const Projection& projection,
                const BlockSpec& spec,
                int64_t first_row,
                bool own) {
  if (!projection.rope) {
    return x;
  }
  const int64_t text_rows = spec.layout.text_rows();
  const bool has_summaries = first_row + x.rows() > text_rows;
  return QkNormRope(cx,
                    x,
                    {.layout = spec.layout,
                     .first_row = first_row,
                     .split = text_rows - first_row,
                     .weight = projection.norm->text,
                     .weight_summary = own && has_summaries ? projection.norm->summary : nullptr,
                     .table = spec.rope_table,
                     .head_dim = spec.head_dim,
                     .eps = spec.eps});
}

// While annealing, summary rows are a·own + (1 - a)·base. The rotation is linear, so mixing rotated rows is the same.
Var Project(const ExecContext& cx, const Var& x, const Projection& projection, const BlockSpec& spec) {
  const int64_t text_rows = spec.layout.text_rows();
  Parameter* own = spec.mix > 0.0 ? projection.weight->summary : nullptr;
  Var y = SplitLinear(cx, x, text_rows, *projection.weight->text, own);
  y = NormAndRope(cx, y, projection, spec, 0, own != nullptr);
  const int64_t summary_rows = x.rows() - text_rows;
  if (own == nullptr || spec.mix >= 1.0 || summary_rows == 0) {
    return y;
  }
  const Var base = Linear(cx, Rows(cx, x, text_rows, summary_rows), *projection.weight->text);
  return MixRows(cx, y, NormAndRope(cx, base, projection, spec, text_rows, false), text_rows, spec.mix);
}

}  // namespace

Var AttentionBlock(const ExecContext& cx, const Var& x, const AttentionWeights& weights, const BlockSpec& spec) {
  const int64_t text_rows = spec.layout.text_rows();
  const Var in = spec.role == SummaryRole::kBypass ? Rows(cx, x, 0, text_rows) : x;
  Parameter* norm_summary = in.rows() > text_rows ? weights.norm.summary : nullptr;
  const Var normed = TensorEnter(cx, RmsNorm(cx, in, text_rows, *weights.norm.text, norm_summary, spec.eps));
  const Var queries = spec.role == SummaryRole::kKeysOnly ? Rows(cx, normed, 0, text_rows) : normed;
  const Var q = Project(cx, queries, {&weights.q, &weights.q_norm, true}, spec);
  const Var k = Project(cx, normed, {&weights.k, &weights.k_norm, true}, spec);
  const Var v = Project(cx, normed, {&weights.v, nullptr, false}, spec);
  const Var attended =
      Attention(cx, q, k, v, {.layout = spec.layout, .window = spec.window, .head_dim = spec.head_dim});
  const Var delta = TensorReduce(cx, Linear(cx, attended, *weights.out));
  return AddRows(cx, spec.role == SummaryRole::kKeysOnly ? Rows(cx, x, 0, text_rows) : x, delta);
}

Var MlpBlock(const ExecContext& cx, const Var& x, const MlpWeights& weights, int64_t active_rows, double eps) {
  const Var in = Rows(cx, x, 0, active_rows);
  const Var normed = TensorEnter(cx, RmsNorm(cx, in, active_rows, *weights.norm, nullptr, eps));
  const Var hidden = Swiglu(cx, Linear(cx, normed, *weights.gate), Linear(cx, normed, *weights.up));
  return AddRows(cx, x, TensorReduce(cx, Linear(cx, hidden, *weights.down)));
}

}  // namespace ksa
