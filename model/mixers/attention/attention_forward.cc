// Forward: project rows, attend, and the output projection. Decoding needs the first two apart: it appends k and v of
// new rows to what it keeps, and attends to that.
#include <utility>

#include "model/mixers/attention/attention_cache.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/decode_call.h"
#include "model/ops/attention.h"
#include "model/ops/linear.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/rope.h"
#include "model/ops/rows.h"
#include "model/ops/short_conv.h"

namespace ksa {
namespace {

// The weights of a projection of the first `rows` rows; none of the summaries' own once annealing is over.
ProductSpec ProductOf(const WeightPair& weight, const MixerCall& call, int64_t rows) {
  return {weight.text, call.mix > 0.0 ? weight.summary : nullptr, rows};
}

}  // namespace

Var BoundAttention::NormAndRope(
    const ExecContext& cx, const Var& x, const Part& part, const MixerCall& call, int64_t first_row, bool own) const {
  const bool rotates = setup_.options.rope == RopeUse::kDefault;
  if (part.norm == nullptr || (!rotates && part.norm->text == nullptr)) {
    return x;
  }
  const RowPositions positions = PositionsOf(call, setup_.rope_table, rotates);
  const int64_t text_rows = call.layout.text_rows();
  const bool has_summaries = first_row + x.rows() > text_rows;
  return QkNormRope(cx,
                    x,
                    {.layout = positions.layout,
                     .first_row = first_row,
                     .split = text_rows - first_row,
                     .weight = part.norm->text,
                     .weight_summary = own && has_summaries ? part.norm->summary : nullptr,
                     .table = positions.table,
                     .head_dim = setup_.head_dim,
                     .eps = setup_.eps});
}

// Summary rows, of own or base projections, stay as they are.
Var BoundAttention::Convolve(const ExecContext& cx, const Var& x, const Part& part, const MixerCall& call) const {
  if (part.conv == nullptr) {
    return x;
  }
  const ShortConvSpec spec = {.layout = call.layout, .whole = call.whole, .weight = part.conv};
  return call.cache == nullptr ? ShortConv(cx, x, spec)
                               : CacheOf<AttentionCache>(call).taps.at(part.number).Convolve(cx, x, spec, call);
}

// `y`, the convolved product of the first rows of x, -> q, k or v. While annealing, summary rows are
// a·own + (1 - a)·base. The rotation is linear, so mixing rotated rows is the same.
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
                                                  const MixerCall& call,
                                                  std::span<const ProductSpec> more) const {
  const AttentionWeights& weights = setup_.weights;
  const RowCounts keys = call.RowsIn();
  std::vector<ProductSpec> products(more.begin(), more.end());
  products.push_back(ProductOf(weights.q, call, call.RowsOut().total()));
  products.push_back(ProductOf(weights.k, call, keys.total()));
  products.push_back(ProductOf(weights.v, call, keys.total()));
  EnteredProducts in = EnterLinear(cx, normed, keys, products);
  const auto finish = [&](const Var& product, const Part& part) { return Finish(cx, in.entered, product, part, call); };
  const Part q = {&weights.q, weights.q_conv, &weights.q_norm, 0};
  const Part k = {&weights.k, weights.k_conv, &weights.k_norm, 1};
  const Part v = {&weights.v, weights.v_conv, nullptr, 2};
  const size_t first = more.size();
  Projected rows;
  rows.q = finish(Convolve(cx, in.products[first], q, call), q);
  rows.k_product = Convolve(cx, in.products[first + 1], k, call);
  rows.k = finish(rows.k_product, k);
  rows.v = finish(Convolve(cx, in.products[first + 2], v, call), v);
  in.products.resize(first);
  rows.more = std::move(in.products);
  return rows;
}

Var BoundAttention::Attend(const ExecContext& cx, const Projected& rows, const MixerCall& call) const {
  if (call.cache != nullptr) {
    auto& cache = CacheOf<AttentionCache>(call);
    cache.Keep(cx, rows.k, rows.v, call);
    if (call.step != nullptr) {
      return cache.Attend(cx, rows.q, rows.k, rows.v, call, setup_.head_dim);
    }
  }
  return Attention(
      cx, rows.q, rows.k, rows.v, {.layout = call.layout, .window = setup_.window, .head_dim = setup_.head_dim});
}

// Of sequences that are spread over ranks: the keys come first, and travel while queries are computed. With a
// convolution, which has an exchange of its own, queries are there before keys travel.
Var BoundAttention::AttendOverRanks(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const AttentionWeights& weights = setup_.weights;
  const int64_t heads = weights.q.text->value.rows() / setup_.head_dim;
  const ContextAttentionSpec spec = {
      .whole = call.whole, .window = setup_.window, .head_dim = setup_.head_dim, .method = call.context_method};
  if (weights.q_conv != nullptr) {
    const Projected rows = Project(cx, normed, call, {});
    return ContextAttention(cx, rows.q, StartContextKeys(cx, rows.k, rows.v, heads, spec));
  }
  const RowCounts keys = call.RowsIn();
  const RowCounts queries = call.RowsOut();
  const ProductSpec products[] = {ProductOf(weights.k, call, keys.total()), ProductOf(weights.v, call, keys.total())};
  EnteredProducts in = EnterLinear(cx, normed, keys, products);
  const Var k =
      Finish(cx, in.entered, std::move(in.products[0]), {.weight = &weights.k, .norm = &weights.k_norm}, call);
  const Var v = Finish(cx, in.entered, std::move(in.products[1]), {.weight = &weights.v}, call);
  const auto travelling = StartContextKeys(cx, k, v, heads, spec);
  const ProductSpec product = ProductOf(weights.q, call, queries.total());
  const Var rows = Rows(cx, in.entered, 0, queries.total());
  Var q = SplitLinear(cx, rows, queries.text, *product.weight, product.weight_summary);
  q = Finish(cx, rows, std::move(q), {.weight = &weights.q, .norm = &weights.q_norm}, call);
  return ContextAttention(cx, q, travelling);
}

std::unique_ptr<LayerCache> BoundAttention::MakeCache(const ExecContext& cx, const CacheSpec& spec) const {
  const AttentionWeights& weights = setup_.weights;
  auto cache = std::make_unique<AttentionCache>(
      cx, spec, setup_.window, spec.summary_tokens, weights.k.text->value.rows(), weights.v.text->value.rows());
  cache->taps = TapsFor(cx, spec);
  return cache;
}

std::array<KeptTaps, 3> BoundAttention::TapsFor(const ExecContext& cx, const CacheSpec& spec) const {
  const AttentionWeights& weights = setup_.weights;
  return {KeptTaps(cx, spec, weights.q_conv), KeptTaps(cx, spec, weights.k_conv), KeptTaps(cx, spec, weights.v_conv)};
}

Var BoundAttention::Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Var mixed =
      IsContextParallel(cx) ? AttendOverRanks(cx, normed, call) : Attend(cx, Project(cx, normed, call, {}), call);
  return LinearReduce(cx, mixed, call.RowsOut(), *setup_.weights.out, call.unread);
}

}  // namespace ksa
