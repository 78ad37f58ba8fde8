#include "model/mixers/attention/attention_cache.h"

#include <algorithm>

#include "kernels/cache/cached_attention.h"
#include "kernels/cache/move_rows.h"
#include "kernels/copy/elementwise.h"
#include "model/mixers/decode_call.h"
#include "model/ops/heads.h"

namespace ksa {

void RowStore::Keep(const ExecContext& cx, const Tensor& rows, const MixerCall& call) {
  if (call.step == nullptr) {
    KeepSequence(cx, rows, call.slot, call.layout.text_tokens);
    return;
  }
  const DecodeStep::Places& places = call.step->PlacesIn(kept_);
  const int64_t n = call.step->text_rows();
  MoveRows({.from = rows.Rows(0, n), .to = rows_, .to_rows = places.text}, cx.stream);
  if (!places.entries.empty()) {
    MoveRows({.from = rows.Rows(n, places.entries.size()), .to = rows_, .to_rows = places.entries}, cx.stream);
  }
}

// The ring's last rows may begin anywhere in it: a run up to its end, and one from its beginning.
void RowStore::KeepSequence(const ExecContext& cx, const Tensor& rows, int32_t slot, int32_t tokens) {
  const auto copy = [&](int64_t from, int64_t to, int64_t count) {
    if (count > 0) {
      Copy(rows.Rows(from, count), rows_.Rows(to, count), cx.stream);
    }
  };
  const int32_t first = std::max(0, tokens - kept_.ring);
  const int32_t count = std::min(tokens - first, kept_.ring - first % kept_.ring);
  copy(first, kept_.TextRow(slot, first), count);
  copy(first + count, kept_.TextRow(slot, first + count), tokens - first - count);
  if (kept_.entries > 0) {
    const int64_t entries = rows.rows() - tokens;
    KSA_CHECK(entries <= kept_.behind, "{} entries of a sequence; {} have room", entries, kept_.behind);
    copy(tokens, kept_.EntryRow(slot, 0, 0), entries);
  }
}

AttentionCache::AttentionCache(const ExecContext& cx,
                               const CacheSpec& spec,
                               const AttentionWindow& window,
                               int32_t entries,
                               int64_t key_columns,
                               int64_t value_columns)
    : kept_(KeptRows::Of(spec, window, entries)),
      k_(cx, spec, kept_, key_columns),
      v_(cx, spec, kept_, value_columns) {}

int64_t AttentionCache::bytes() const {
  int64_t bytes = k_.rows().view().bytes() + v_.rows().view().bytes();
  for (const KeptTaps& of : taps) {
    bytes += of.bytes();
  }
  return bytes;
}

void AttentionCache::Keep(const ExecContext& cx, const Var& k, const Var& v, const MixerCall& call) {
  k_.Keep(cx, k.value, call);
  v_.Keep(cx, v.value, call);
}

Var AttentionCache::Attend(
    const ExecContext& cx, const Var& q, const Var& k, const Var& v, const MixerCall& call, int head_dim) const {
  const DecodeStep::Places& places = call.step->PlacesIn(kept_);
  const int c = ValueDim(k.value, v.value, head_dim);
  Tensor out = cx.Empty(OutputShape(q.value, head_dim, c), q.value.dtype());
  CachedAttention({.q = Heads(q.value, head_dim),
                   .k = Heads(k_.rows(), head_dim),
                   .v = Heads(v_.rows(), c),
                   .new_k = Heads(k.value, head_dim),
                   .new_v = Heads(v.value, c),
                   .spans = places.spans.Rows(0, q.rows()),
                   .out = Heads(out, c),
                   .most_keys = places.most_keys,
                   .allocator = cx.allocator},
                  cx.stream);
  return Result(cx, std::move(out), q.placement);
}

}  // namespace ksa
