#include "model/layers/block.h"

#include <utility>

#include "model/autograd/recompute.h"
#include "model/ops/attention.h"
#include "model/ops/collectives.h"
#include "model/ops/context_attention.h"
#include "model/ops/linear.h"
#include "model/ops/parallel_linear.h"
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

// The weights of a projection of the first `rows` rows; none of the summaries' own once annealing is over.
ProductSpec ProductOf(const WeightPair& weight, const BlockSpec& spec, int64_t rows) {
  return {weight.text, spec.mix > 0.0 ? weight.summary : nullptr, rows};
}

// `y`, the product of the first rows of x, -> q, k or v. While annealing, summary rows are a·own + (1 - a)·base. The
// rotation is linear, so mixing rotated rows is the same.
Var Projected(const ExecContext& cx, const Var& x, Var y, const Projection& projection, const BlockSpec& spec) {
  const int64_t text_rows = spec.layout.text_rows();
  const int64_t summary_rows = y.rows() - text_rows;
  const bool own = spec.mix > 0.0 && projection.weight->summary != nullptr;
  y = NormAndRope(cx, y, projection, spec, 0, own);
  if (!own || spec.mix >= 1.0 || summary_rows == 0) {
    return y;
  }
  const Var base = Linear(cx, Rows(cx, x, text_rows, summary_rows), *projection.weight->text);
  return MixRows(cx, y, NormAndRope(cx, base, projection, spec, text_rows, false), text_rows, spec.mix);
}

// The rows of the whole layout that run through a block.
RowCounts ActiveRows(const BlockSpec& spec) {
  return {spec.layout.text_rows(), spec.role == SummaryRole::kBypass ? 0 : spec.layout.summary_rows()};
}

// Normed rows -> attention's output for `queries`, the first of the rows `keys`.
Var Attended(const ExecContext& cx,
             const Var& normed,
             const RowCounts& keys,
             const RowCounts& queries,
             const AttentionWeights& weights,
             const BlockSpec& spec) {
  const ProductSpec products[] = {ProductOf(weights.q, spec, queries.total()),
                                  ProductOf(weights.k, spec, keys.total()),
                                  ProductOf(weights.v, spec, keys.total())};
  EnteredProducts in = EnterLinear(cx, normed, keys, products);
  const Var q = Projected(cx, in.entered, std::move(in.products[0]), {&weights.q, &weights.q_norm, true}, spec);
  const Var k = Projected(cx, in.entered, std::move(in.products[1]), {&weights.k, &weights.k_norm, true}, spec);
  const Var v = Projected(cx, in.entered, std::move(in.products[2]), {&weights.v, nullptr, false}, spec);
  return Attention(cx, q, k, v, {.layout = spec.layout, .window = spec.window, .head_dim = spec.head_dim});
}

// The same of sequences that are spread over ranks: the keys come first, and travel while queries are computed.
Var ContextAttended(const ExecContext& cx,
                    const Var& normed,
                    const RowCounts& keys,
                    const RowCounts& queries,
                    const AttentionWeights& weights,
                    const BlockSpec& spec) {
  const ProductSpec products[] = {ProductOf(weights.k, spec, keys.total()), ProductOf(weights.v, spec, keys.total())};
  EnteredProducts in = EnterLinear(cx, normed, keys, products);
  const Var k = Projected(cx, in.entered, std::move(in.products[0]), {&weights.k, &weights.k_norm, true}, spec);
  const Var v = Projected(cx, in.entered, std::move(in.products[1]), {&weights.v, nullptr, false}, spec);
  const int64_t heads = weights.q.text->value.rows() / spec.head_dim;
  const auto travelling = StartContextKeys(
      cx,
      k,
      v,
      heads,
      {.whole = spec.whole, .window = spec.window, .head_dim = spec.head_dim, .method = spec.context_method});
  const ProductSpec product = ProductOf(weights.q, spec, queries.total());
  const Var rows = Rows(cx, in.entered, 0, queries.total());
  Var q = SplitLinear(cx, rows, queries.text, *product.weight, product.weight_summary);
  q = Projected(cx, rows, std::move(q), {&weights.q, &weights.q_norm, true}, spec);
  return ContextAttention(cx, q, travelling);
}

// Whether this is a block that runs again for its backward pass alone: nobody reads what its last product gives.
bool RunsAgain(const ExecContext& cx) {
  return cx.kept != nullptr && cx.kept->replay;
}

// Normed rows -> what attention adds to the residual stream. `last`: of a recomputed block.
Var AttentionDelta(
    const ExecContext& cx, const Var& normed, const AttentionWeights& weights, const BlockSpec& spec, bool last) {
  const RowCounts keys = ActiveRows(spec);
  const RowCounts queries = {keys.text, spec.role == SummaryRole::kKeysOnly ? 0 : keys.summaries};
  const auto attended = IsContextParallel(cx) ? ContextAttended : Attended;
  const bool unread = last && RunsAgain(cx);
  return LinearReduce(cx, attended(cx, normed, keys, queries, weights, spec), queries, *weights.out, unread);
}

Var MlpHidden(const ExecContext& cx, const Var& normed, const MlpWeights& weights, const RowCounts& rows) {
  const ProductSpec products[] = {{weights.gate, nullptr, rows.total()}, {weights.up, nullptr, rows.total()}};
  const EnteredProducts in = EnterLinear(cx, normed, rows, products);
  return Swiglu(cx, in.products[0], in.products[1]);
}

// Of every recomputed block that has it, this is the last product.
Var MlpDelta(const ExecContext& cx, const Var& normed, const MlpWeights& weights, const RowCounts& rows) {
  return LinearReduce(cx, MlpHidden(cx, normed, weights, rows), rows, *weights.down, RunsAgain(cx));
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
  const auto block = [weights, spec, recompute](const ExecContext& inner, const Var& normed) {
    return AttentionDelta(inner, normed, weights, spec, recompute);
  };
  const Var delta = Run(cx, norm.normed, recompute, block);
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
