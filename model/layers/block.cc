#include "model/layers/block.h"

#include "model/autograd/recompute.h"
#include "model/ops/attention.h"
#include "model/ops/collectives.h"
#include "model/ops/context_attention.h"
#include "model/ops/linear.h"
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

// The rows of the whole layout that run through a block.
RowCounts ActiveRows(const BlockSpec& spec) {
  return {spec.layout.text_rows(), spec.role == SummaryRole::kBypass ? 0 : spec.layout.summary_rows()};
}

// Normed rows [all keys, d] -> attention's output for the first `queries` of them. With sequences spread over ranks the
// keys come first, and travel while queries are computed.
Var Attended(const ExecContext& cx,
             const Var& entered,
             int64_t queries,
             const AttentionWeights& weights,
             const BlockSpec& spec) {
  const auto project_q = [&] {
    return Project(cx, Rows(cx, entered, 0, queries), {&weights.q, &weights.q_norm, true}, spec);
  };
  if (!IsContextParallel(cx)) {
    const Var q = project_q();
    const Var k = Project(cx, entered, {&weights.k, &weights.k_norm, true}, spec);
    const Var v = Project(cx, entered, {&weights.v, nullptr, false}, spec);
    return Attention(cx, q, k, v, {.layout = spec.layout, .window = spec.window, .head_dim = spec.head_dim});
  }
  const Var k = Project(cx, entered, {&weights.k, &weights.k_norm, true}, spec);
  const Var v = Project(cx, entered, {&weights.v, nullptr, false}, spec);
  const int64_t heads = weights.q.text->value.rows() / spec.head_dim;
  const auto keys = StartContextKeys(
      cx,
      k,
      v,
      heads,
      {.whole = spec.whole, .window = spec.window, .head_dim = spec.head_dim, .method = spec.context_method});
  return ContextAttention(cx, project_q(), keys);
}

// Normed rows -> what attention adds to the residual stream.
Var AttentionDelta(const ExecContext& cx, const Var& normed, const AttentionWeights& weights, const BlockSpec& spec) {
  const RowCounts keys = ActiveRows(spec);
  const RowCounts queries = {keys.text, spec.role == SummaryRole::kKeysOnly ? 0 : keys.summaries};
  const Var entered = TensorEnter(cx, normed, keys);
  const Var attended = Attended(cx, entered, queries.total(), weights, spec);
  return TensorReduce(cx, Linear(cx, attended, *weights.out), queries);
}

Var MlpDelta(const ExecContext& cx, const Var& normed, const MlpWeights& weights, const RowCounts& rows) {
  const Var entered = TensorEnter(cx, normed, rows);
  const Var hidden = Swiglu(cx, Linear(cx, entered, *weights.gate), Linear(cx, entered, *weights.up));
  return TensorReduce(cx, Linear(cx, hidden, *weights.down), rows);
}

// `block` now, or again in backward.
template <typename Block>
Var Run(const ExecContext& cx, const Var& x, bool recompute, const Block& block) {
  return recompute ? Recomputed(cx, x, block) : block(cx, x);
}

}  // namespace

Var Sum(const ExecContext& cx, const Residual& in) {
  return in.delta.value.empty() ? in.x : AddRows(cx, in.x, in.delta);
}

NormedSum NormOfSum(const ExecContext& cx,
                    const Residual& in,
                    int64_t active_rows,
                    const WeightPair& weight,
                    int64_t split,
                    double eps) {
  Parameter* summary = active_rows > split ? weight.summary : nullptr;
  const int64_t rows = in.x.rows();
  if (!in.delta.value.empty() && in.delta.rows() == rows && active_rows == rows) {
    return AddRmsNorm(cx, in.x, in.delta, split, *weight.text, summary, eps);
  }
  const Var sum = Sum(cx, in);
  return {sum, RmsNorm(cx, Rows(cx, sum, 0, active_rows), split, *weight.text, summary, eps)};
}

Residual AttentionBlock(
    const ExecContext& cx, const Residual& in, const AttentionWeights& weights, const BlockSpec& spec, bool recompute) {
  const RowCounts held = HeldRows(cx, ActiveRows(spec));
  const NormedSum norm = NormOfSum(cx, in, held.total(), weights.norm, held.text, spec.eps);
  const Var delta = Run(cx, norm.normed, recompute, [weights, spec](const ExecContext& inner, const Var& normed) {
    return AttentionDelta(inner, normed, weights, spec);
  });
  return {spec.role == SummaryRole::kKeysOnly ? Rows(cx, norm.sum, 0, held.text) : norm.sum, delta};
}

Residual MlpBlock(const ExecContext& cx,
                  const Residual& in,
                  const MlpWeights& weights,
                  const RowCounts& active,
                  double eps,
                  bool recompute) {
  const int64_t rows = HeldRows(cx, active).total();
  const NormedSum norm = NormOfSum(cx, in, rows, {weights.norm, nullptr}, rows, eps);
  const Var delta = Run(cx, norm.normed, recompute, [weights, active](const ExecContext& inner, const Var& normed) {
    return MlpDelta(inner, normed, weights, active);
  });
  return {norm.sum, delta};
}

}  // namespace ksa
