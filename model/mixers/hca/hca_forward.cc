// Forward of an hca layer: the text's q, k and v as in any attention layer, and the entries of whole chunks.
#include <utility>

#include "kernels/pool/chunk_pool.h"
#include "model/mixers/decode_call.h"
#include "model/mixers/hca/hca_cache.h"
#include "model/mixers/hca/hca_mixer.h"
#include "model/ops/attention.h"
#include "model/ops/chunk_pool.h"
#include "model/ops/context_attention.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/rope.h"
#include "model/ops/rows.h"

namespace ksa {

SummaryLayout WithEntries(const SummaryLayout& layout,
                          const AttentionWindow& window,
                          SummaryPositions positions,
                          bool all_whole) {
  SummaryLayout with = layout;
  const int32_t live = all_whole ? layout.total() / layout.chunk_size : LiveChunks(layout, window);
  with.summary_tokens = 1;
  with.summary_positions = positions;
  with.live_chunks = 0;
  while (with.live_chunks < layout.chunks() && layout.ChunkAt(with.live_chunks) < live) {
    ++with.live_chunks;
  }
  return with;
}

// Pooled rows, normed by head and rotated by the positions of the entries; or as they are.
Var BoundHca::NormEntries(
    const ExecContext& cx, const Var& entries, Parameter* weight, const EntryPositions& positions, bool rotates) const {
  if (!rotates && weight == nullptr) {
    return entries;
  }
  EntryPositions at = positions;
  if (!rotates) {
    at = {DecodeStep::Numbered(entries.rows()), 0, setup().rope_table};
    at.layout.text_positions = TextPositions::kZero;
  }
  return QkNormRope(cx,
                    entries,
                    {.layout = at.layout,
                     .first_row = at.first_row,
                     .split = entries.rows(),
                     .weight = weight,
                     .table = at.table,
                     .head_dim = setup().head_dim,
                     .eps = setup().eps});
}

std::vector<ProductSpec> BoundHca::Products(int64_t rows) const {
  std::vector<ProductSpec> products;
  for (Parameter* weight : {compressor_.k, compressor_.v, compressor_.gate[0], compressor_.gate[1]}) {
    if (weight != nullptr) {
      products.push_back({weight, nullptr, rows});
    }
  }
  return products;
}

BoundHca::Pooled BoundHca::PooledOf(const Projected& text) const {
  const bool own = compressor_.k != nullptr;
  const size_t first_gate = own ? 2 : 0;
  Pooled pooled = {.x = {own ? text.more[0] : text.k_product, own ? text.more[1] : text.v},
                   .gate = {text.more[first_gate], {}}};
  if (compressor_.gate[1] != nullptr) {
    pooled.gate[1] = text.more[first_gate + 1];
  }
  return pooled;
}

std::array<Var, 2> BoundHca::MakeEntries(const ExecContext& cx,
                                         const Pooled& from,
                                         const SummaryLayout& layout,
                                         EntryPositions positions) const {
  std::array<Var, 2> entries;
  if (compressor_.gate[1] == nullptr) {
    entries = ChunkPool(cx, from.gate[0], from.x, {layout, compressor_.bias[0]});
  } else {
    for (size_t i = 0; i < entries.size(); ++i) {
      entries[i] = ChunkPool(cx, from.gate[i], {from.x[i], {}}, {layout, compressor_.bias[i]})[0];
    }
  }
  const bool rotates = setup().options.rope == RopeUse::kDefault;
  return {NormEntries(cx, entries[0], compressor_.norm[0], positions, rotates),
          NormEntries(cx, entries[1], compressor_.norm[1], positions, false)};
}

BoundHca::Rows BoundHca::MakeRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  if (call.step != nullptr) {
    return StepRows(cx, normed, call);
  }
  const bool keeps = call.cache != nullptr;
  const SummaryLayout layout = WithEntries(call.layout, setup().window, positions_, keeps);
  const int64_t pooled = keeps ? layout.text_rows() : PooledRows(layout);
  Projected text = Project(cx, normed, call, pooled == 0 ? std::vector<ProductSpec>() : Products(pooled));
  Rows rows = {std::move(text.q), text.k, text.v};
  if (pooled > 0) {
    const Pooled from = PooledOf(text);
    if (layout.live_chunks > 0) {
      const auto [k, v] = MakeEntries(cx, from, layout, {layout, layout.text_rows(), setup().rope_table});
      rows.k = StackRows(cx, text.k, k);
      rows.v = StackRows(cx, text.v, v);
    }
    if (keeps) {
      CacheOf<HcaCache>(call).KeepOpen(cx, {from.gate[0], from.gate[1], from.x[0], from.x[1]}, call);
    }
  }
  return rows;
}

// Rows of a step: the text's, and an entry for each chunk that it ends, of which all rows but the last were kept.
BoundHca::Rows BoundHca::StepRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  DecodeStep& step = *call.step;
  auto& cache = CacheOf<HcaCache>(call);
  Projected text = Project(cx, normed, call, Products(step.text_rows()));
  const Pooled from = PooledOf(text);
  Rows rows = {std::move(text.q), text.k, text.v};
  if (step.ended() > 0) {
    const HcaCache::Open chunks = cache.WholeChunks(cx, {from.gate[0], from.gate[1], from.x[0], from.x[1]}, call);
    const auto ended = static_cast<int32_t>(step.ended());
    const SummaryLayout layout = {.sequences = ended,
                                  .text_tokens = step.chunk_size(),
                                  .chunk_size = step.chunk_size(),
                                  .summary_tokens = 1,
                                  .live_chunks = 1};
    const Tensor table = step.EntryRopeRows(setup().rope_table, positions_);
    const auto [k, v] = MakeEntries(cx,
                                    {.x = {chunks[2], chunks[3]}, .gate = {chunks[0], chunks[1]}},
                                    layout,
                                    {DecodeStep::Numbered(ended), 0, table});
    rows.k = StackRows(cx, text.k, k);
    rows.v = StackRows(cx, text.v, v);
  }
  cache.KeepOpen(cx, {from.gate[0], from.gate[1], from.x[0], from.x[1]}, call);
  return rows;
}

std::unique_ptr<LayerCache> BoundHca::MakeCache(const ExecContext& cx, const CacheSpec& spec) const {
  const int64_t columns = setup().weights.k.text->value.rows();
  auto cache =
      std::make_unique<HcaCache>(cx,
                                 spec,
                                 setup().window,
                                 columns,
                                 std::array{true, compressor_.gate[1] != nullptr, true, compressor_.k != nullptr});
  cache->taps = TapsFor(cx, spec);
  return cache;
}

Var BoundHca::Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Rows rows = MakeRows(cx, normed, call);
  const AttentionSetup& layer = setup();
  if (call.cache != nullptr) {
    CacheOf<HcaCache>(call).Keep(cx, rows.k, rows.v, call);
  }
  Var mixed;
  if (call.step != nullptr) {
    mixed = CacheOf<HcaCache>(call).Attend(cx, rows.q, rows.k, rows.v, call, layer.head_dim);
  } else if (IsContextParallel(cx)) {
    const ContextAttentionSpec spec = {.whole = WithEntries(call.whole, layer.window, positions_),
                                       .window = layer.window,
                                       .head_dim = layer.head_dim,
                                       .method = call.context_method};
    mixed = ContextAttention(cx, rows.q, StartContextKeys(cx, rows.k, rows.v, rows.q.cols() / layer.head_dim, spec));
  } else {
    mixed = Attention(cx,
                      rows.q,
                      rows.k,
                      rows.v,
                      {.layout = WithEntries(call.layout, layer.window, positions_, call.cache != nullptr),
                       .window = layer.window,
                       .head_dim = layer.head_dim});
  }
  return LinearReduce(cx, mixed, call.RowsOut(), *layer.weights.out, call.unread);
}

}  // namespace ksa
