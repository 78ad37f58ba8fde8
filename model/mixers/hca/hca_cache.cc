#include "model/mixers/hca/hca_cache.h"

#include <algorithm>
#include <vector>

#include "kernels/cache/move_rows.h"

namespace ksa {

HcaCache::HcaCache(const ExecContext& cx,
                   const CacheSpec& spec,
                   const AttentionWindow& window,
                   int64_t columns,
                   const std::array<bool, 4>& keeps)
    : AttentionCache(cx, spec, window, 1, columns, columns), open_(std::min(spec.tokens, spec.chunk_size - 1)) {
  for (size_t i = 0; i < keeps.size() && open_ > 0; ++i) {
    if (keeps[i]) {
      rows_[i] = cx.Empty({int64_t{1} * spec.slots * open_, columns}, spec.dtype);
    }
  }
}

int64_t HcaCache::bytes() const {
  int64_t bytes = AttentionCache::bytes();
  for (const Tensor& rows : rows_) {
    bytes += rows.empty() ? 0 : rows.view().bytes();
  }
  return bytes;
}

void HcaCache::KeepOpen(const ExecContext& cx, const Open& rows, const MixerCall& call) {
  std::vector<int32_t> from;
  std::vector<int32_t> to;
  if (call.step == nullptr) {
    const int32_t tokens = call.layout.text_tokens;
    for (int32_t i = tokens / call.layout.chunk_size * call.layout.chunk_size; i < tokens; ++i) {
      from.push_back(i);
      to.push_back(call.slot * open_ + i % call.layout.chunk_size);
    }
  } else {
    const int32_t k = call.step->chunk_size();
    for (size_t i = 0; i < call.step->tokens().size(); ++i) {
      const DecodeToken& token = call.step->tokens()[i];
      if (token.position % k != k - 1) {
        from.push_back(static_cast<int32_t>(i));
        to.push_back(token.slot * open_ + token.position % k);
      }
    }
  }
  if (from.empty()) {
    return;
  }
  const Shape shape = {static_cast<int64_t>(from.size())};
  const Tensor from_rows = UploadNumbers(cx, from, shape);
  const Tensor to_rows = UploadNumbers(cx, to, shape);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (!rows_[i].empty()) {
      MoveRows({.from = rows[i].value, .from_rows = from_rows, .to = rows_[i], .to_rows = to_rows}, cx.stream);
    }
  }
}

HcaCache::Open HcaCache::WholeChunks(const ExecContext& cx, const Open& rows, const MixerCall& call) const {
  const DecodeStep& step = *call.step;
  const int32_t k = step.chunk_size();
  std::vector<int32_t> open;   // where the first k - 1 rows of each chunk are kept,
  std::vector<int32_t> ring;   // or in the ring,
  std::vector<int32_t> first;  // and where they go
  std::vector<int32_t> last;   // where the last ones go
  for (size_t j = 0; j < step.ended().size(); ++j) {
    const DecodeToken& token = step.tokens()[static_cast<size_t>(step.ended()[j])];
    const auto chunk = static_cast<int32_t>(j) * k;
    for (int32_t s = 0; s < k - 1; ++s) {
      open.push_back(token.slot * open_ + s);
      ring.push_back(kept().TextRow(token.slot, token.position + 1 - k + s));
      first.push_back(chunk + s);
    }
    last.push_back(chunk + k - 1);
  }
  const auto upload = [&](const std::vector<int32_t>& numbers) {
    return UploadNumbers(cx, numbers, {static_cast<int64_t>(numbers.size())});
  };
  const Tensor ended = upload(step.ended());
  const Tensor last_rows = upload(last);
  Open whole;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].value.empty()) {
      continue;
    }
    const Tensor chunks = cx.Empty({static_cast<int64_t>(last.size()) * k, rows[i].cols()}, rows[i].value.dtype());
    MoveRows({.from = rows[i].value, .from_rows = ended, .to = chunks, .to_rows = last_rows}, cx.stream);
    if (k > 1) {
      const bool from_ring = i == kValues && rows_[i].empty();
      MoveRows({.from = from_ring ? values() : rows_[i],
                .from_rows = upload(from_ring ? ring : open),
                .to = chunks,
                .to_rows = upload(first)},
               cx.stream);
    }
    whole[i] = {chunks, rows[i].placement};
  }
  return whole;
}

}  // namespace ksa
