// Forward of an hca layer: the text's q, k and v as in any attention layer, and the entries of whole chunks.
#include <utility>

#include "kernels/pool/chunk_pool.h"
#include "model/mixers/hca/hca_mixer.h"
#include "model/ops/attention.h"
#include "model/ops/chunk_pool.h"
#include "model/ops/context_attention.h"
#include "model/ops/parallel_linear.h"
#include "model/ops/rope.h"
#include "model/ops/rows.h"

namespace ksa {

SummaryLayout WithEntries(const SummaryLayout& layout, const AttentionWindow& window, SummaryPositions positions) {
  SummaryLayout with = layout;
  const int32_t live = LiveChunks(layout, window);
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
    const ExecContext& cx, const Var& entries, Parameter* weight, SummaryLayout layout, bool rotates) const {
  if (!rotates) {
    if (weight == nullptr) {
      return entries;
    }
    layout.summary_positions = SummaryPositions::kZero;
  }
  return QkNormRope(cx,
                    entries,
                    {.layout = layout,
                     .first_row = layout.text_rows(),
                     .split = entries.rows(),
                     .weight = weight,
                     .table = setup().rope_table,
                     .head_dim = setup().head_dim,
                     .eps = setup().eps});
}

BoundHca::Rows BoundHca::MakeRows(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const SummaryLayout layout = WithEntries(call.layout, setup().window, positions_);
  const int64_t pooled = PooledRows(layout);
  if (pooled == 0) {
    Projected text = Project(cx, normed, call, {});
    return {std::move(text.q), std::move(text.k), std::move(text.v)};
  }
  std::vector<ProductSpec> products;
  for (Parameter* weight : {compressor_.k, compressor_.v, compressor_.gate[0], compressor_.gate[1]}) {
    if (weight != nullptr) {
      products.push_back({weight, nullptr, pooled});
    }
  }
  const Projected text = Project(cx, normed, call, products);
  const size_t first_gate = compressor_.k == nullptr ? 0 : 2;
  const Var& ck = compressor_.k == nullptr ? text.k_product : text.more[0];
  const Var& cv = compressor_.k == nullptr ? text.v : text.more[1];
  std::array<Var, 2> entries;
  if (compressor_.gate[1] == nullptr) {
    entries = ChunkPool(cx, text.more[first_gate], {ck, cv}, {layout, compressor_.bias[0]});
  } else {
    entries[0] = ChunkPool(cx, text.more[first_gate], {ck, {}}, {layout, compressor_.bias[0]})[0];
    entries[1] = ChunkPool(cx, text.more[first_gate + 1], {cv, {}}, {layout, compressor_.bias[1]})[0];
  }
  const bool rotates = setup().options.rope == RopeUse::kDefault;
  return {text.q,
          StackRows(cx, text.k, NormEntries(cx, entries[0], compressor_.norm[0], layout, rotates)),
          StackRows(cx, text.v, NormEntries(cx, entries[1], compressor_.norm[1], layout, false))};
}

Var BoundHca::Forward(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Rows rows = MakeRows(cx, normed, call);
  const AttentionSetup& layer = setup();
  Var mixed;
  if (IsContextParallel(cx)) {
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
                      {.layout = WithEntries(call.layout, layer.window, positions_),
                       .window = layer.window,
                       .head_dim = layer.head_dim});
  }
  return LinearReduce(cx, mixed, call.RowsOut(), *layer.weights.out, call.unread);
}

}  // namespace ksa
