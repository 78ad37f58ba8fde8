// Forward: project rows, attend, and the output projection. Decoding needs the first two apart: it appends k and v of
// new rows to what it keeps, and attends to that.
#include <utility>

#include "model/mixers/attention/attention_mixer.h"
#include "model/ops/attention.h"
#include "model/ops/linear.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/rope.h"
#include "model/ops/rows.h"

namespace ksa {
namespace {

// The weights of a projection of the first `rows` rows; none of the summaries' own once annealing is over.
ProductSpec ProductOf(const WeightPair& weight, const MixerCall& call, int64_t rows) {
  return {weight.text, call.mix > 0.0 ? weight.summary : nullptr, rows};
}

}  // namespace

Var BoundAttention::NormAndRope(
    const ExecContext& cx, const Var& x, const Part& part, const MixerCall& call, int64_t first_row, bool own) const {
  if (part.norm == nullptr) {
    return x;
  }
  const int64_t text_rows = call.layout.text_rows();
  const bool has_summaries = first_row + x.rows() > text_rows;
  return QkNormRope(cx,
                    x,
                    {.layout = call.layout,
                     .first_row = first_row,
                     .split = text_rows - first_row,
                     .weight = part.norm->text,
                     .weight_summary = own && has_summaries ? part.norm->summary : nullptr,
                     .table = rope_table_,
                     .head_dim = head_dim_,
                     .eps = eps_});
}

// `y`, the product of the first rows of x, -> q, k or v. While annealing, summary rows are a·own + (1 - a)·base. The
// rotation is linear, so mixing rotated rows is the same.
Var BoundAttention::Finish(const ExecContext& cx, const Var& x, Var y, const Part& part, const MixerCall& call) const {
  const int64_t text_rows = call.layout.text_rows();
  const int64_t summary_rows = y.rows() - text_rows;
  const bool own = call.mix > 0.0 && part.weight->summary != nullptr;
  y = NormAndRope(cx, y, part, call, 0, own);
  if (!own || call.mix >= 1.0 || summary_rows == 0) {
    return y;
  }
  const Var base = Linear(cx, Rows(cx, x, text_rows, summary_rows), *part.weight->text);
  return MixRows(cx, y, NormAndRope(cx, base, part, call, text_rows, false), text_rows, call.mix);
}

BoundAttention::Projected BoundAttention::Project(const ExecContext& cx,
                                                  const Var& normed,
                                                  const MixerCall& call) const {
  const RowCounts keys = call.RowsIn();
  const ProductSpec products[] = {ProductOf(weights_.q, call, call.RowsOut().total()),
                                  ProductOf(weights_.k, call, keys.total()),
                                  ProductOf(weights_.v, call, keys.total())};
  EnteredProducts in = EnterLinear(cx, normed, keys, products);
  Projected rows;
  rows.q = Finish(cx, in.entered, std::move(in.products[0]), {&weights_.q, &weights_.q_norm}, call);
  rows.k = Finish(cx, in.entered, std::move(in.products[1]), {&weights_.k, &weights_.k_norm}, call);
  rows.v = Finish(cx, in.entered, std::move(in.products[2]), {&weights_.v, nullptr}, call);
  return rows;
}

Var BoundAttention::Attend(const ExecContext& cx, const Projected& rows, const MixerCall& call) const {
  return Attention(cx, rows.q, rows.k, rows.v, {.layout = call.layout, .window = window_, .head_dim = head_dim_});
}

// Both of sequences that are spread over ranks: the keys come first, and travel while queries are computed.
Var BoundAttention::AttendOverRanks(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const RowCounts keys = call.RowsIn();
  const RowCounts queries = call.RowsOut();
  const ProductSpec products[] = {ProductOf(weights_.k, call, keys.total()), ProductOf(weights_.v, call, keys.total())};
  EnteredProducts in = EnterLinear(cx, normed, keys, products);
  const Var k = Finish(cx, in.entered, std::move(in.products[0]), {&weights_.k, &weights_.k_norm}, call);
  const Var v = Finish(cx, in.entered, std::move(in.products[1]), {&weights_.v, nullptr}, call);
  const int64_t heads = weights_.q.text->value.rows() / head_dim_;
  const auto travelling = StartContextKeys(
      cx, k, v, heads, {.whole = call.whole, .window = window_, .head_dim = head_dim_, .method = call.context_method});
  const ProductSpec product = ProductOf(weights_.q, call, queries.total());
  const Var rows = Rows(cx, in.entered, 0, queries.total());
  Var q = SplitLinear(cx, rows, queries.text, *product.weight, product.weight_summary);
  q = Finish(cx, rows, std::move(q), {&weights_.q, &weights_.q_norm}, call);
  return ContextAttention(cx, q, travelling);
}

Var BoundAttention::Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Var mixed =
      IsContextParallel(cx) ? AttendOverRanks(cx, normed, call) : Attend(cx, Project(cx, normed, call), call);
  return LinearReduce(cx, mixed, call.RowsOut(), *weights_.out, call.unread);
}

}  // namespace ksa
