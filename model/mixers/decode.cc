#include "model/mixers/decode.h"

#include <algorithm>
#include <array>

#include "kernels/cache/cached_attention.h"
#include "kernels/cache/move_rows.h"
#include "kernels/core/gpu.h"
#include "kernels/short_conv/short_conv.h"
#include "model/mixers/mixer.h"

namespace ksa {

int64_t RingRows(const AttentionWindow& window, int64_t tokens, int64_t chunk_size, bool summaries_attend) {
  const bool unlimited = window.chunks == AttentionWindow::kUnlimited;
  const int64_t in_chunks = unlimited ? tokens : (int64_t{1} + window.chunks) * chunk_size;
  return std::min({tokens, in_chunks, std::max<int64_t>(window.tokens, summaries_attend ? chunk_size : 0)});
}

KeptRows KeptRows::Of(const CacheSpec& spec, const AttentionWindow& window, int32_t entries) {
  KeptRows kept;
  kept.window = window;
  kept.ring = static_cast<int32_t>(RingRows(window, spec.tokens, spec.chunk_size, spec.summaries_attend));
  kept.entries = window.summaries ? entries : 0;
  kept.behind = spec.tokens / spec.chunk_size * kept.entries;
  return kept;
}

Tensor UploadNumbers(const ExecContext& cx, const std::vector<int32_t>& numbers, const Shape& shape) {
  const Tensor tensor = cx.Empty(shape, DType::kI32);
  if (!numbers.empty()) {
    CopyFromHost({const_cast<int32_t*>(numbers.data()), DType::kI32, {}, shape}, tensor, cx.stream);
  }
  return tensor;
}

DecodeStep::DecodeStep(const ExecContext& cx, std::vector<DecodeToken> tokens, const SummaryLayout& rule)
    : cx_(cx), tokens_(std::move(tokens)), rule_(rule) {
  rule_.sequences = 1;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    rule_.text_tokens = tokens_[i].position + 1;
    positions_.push_back(rule_.TextPosition(0, tokens_[i].position));
    if (rule_.text_tokens % rule_.chunk_size == 0) {
      ended_.push_back(static_cast<int32_t>(i));
    }
  }
  for (const int32_t token : ended_) {
    rule_.text_tokens = tokens_[static_cast<size_t>(token)].position + 1;
    for (int32_t a = 0; a < rule_.summary_tokens; ++a) {
      positions_.push_back(rule_.SummaryPosition(0, ChunkOf(token) * rule_.summary_tokens + a));
    }
  }
  position_rows_ = UploadNumbers(cx_, positions_, {rows()});
}

SummaryLayout DecodeStep::Layout() const {
  SummaryLayout layout = {.text_tokens = static_cast<int32_t>(tokens_.size())};
  layout.summary_tokens = rule_.summary_tokens;
  layout.live_chunks = rule_.summary_tokens > 0 ? static_cast<int32_t>(ended_.size()) : 0;
  return layout;
}

SummaryLayout DecodeStep::OneTokenEach() const {
  return {.sequences = static_cast<int32_t>(tokens_.size()),
          .text_tokens = 1,
          .total_tokens = kMostConvTaps + 1,
          .first_chunk = kMostConvTaps};
}

const Tensor& DecodeStep::Slots() {
  if (slots_.empty()) {
    std::vector<int32_t> slots;
    for (const DecodeToken& token : tokens_) {
      slots.push_back(token.slot);
    }
    slots_ = UploadNumbers(cx_, slots, {text_rows()});
  }
  return slots_;
}

SummaryLayout DecodeStep::Numbered(int64_t rows) {
  return {.text_tokens = static_cast<int32_t>(rows)};
}

TensorView DecodeStep::RopeRows(const TensorView& table) {
  const auto [found, is_new] = ropes_.try_emplace(table.data);
  if (is_new) {
    found->second = cx_.Empty(table.shape.WithRows(rows()), table.dtype);
    MoveRows({.from = table, .from_rows = position_rows_, .to = found->second}, cx_.stream);
  }
  return found->second;
}

Tensor DecodeStep::EntryRopeRows(const TensorView& table, SummaryPositions positions) {
  SummaryLayout rule = rule_;
  rule.summary_tokens = 1;
  rule.summary_positions = positions;
  std::vector<int32_t> at;
  for (const int32_t token : ended_) {
    rule.text_tokens = tokens_[static_cast<size_t>(token)].position + 1;
    at.push_back(rule.SummaryPosition(0, ChunkOf(token)));
  }
  const Shape shape = {static_cast<int64_t>(at.size())};
  const Tensor rows = cx_.Empty(table.shape.WithRows(shape[0]), table.dtype);
  MoveRows({.from = table, .from_rows = UploadNumbers(cx_, at, shape), .to = rows}, cx_.stream);
  return rows;
}

std::vector<int32_t> DecodeStep::SpansIn(const KeptRows& kept, int64_t& most_keys) const {
  std::vector<int32_t> spans;
  most_keys = 0;
  const auto add = [&](const std::array<Range, kKeySpans>& runs) {
    int64_t keys = 0;
    for (const Range& run : runs) {
      spans.push_back(run.begin);
      spans.push_back(run.size());
      keys += run.size();
    }
    most_keys = std::max(most_keys, keys);
  };
  // Tokens [first, last] of a slot: up to the ring's end, and from its beginning on.
  const auto ring = [&](int32_t slot, int32_t first, int32_t last) {
    const int32_t begin = kept.TextRow(slot, first);
    const int32_t start = slot * kept.rows();
    const int32_t count = last + 1 - first;
    const int32_t here = std::min(count, start + kept.ring - begin);
    return std::pair<Range, Range>{{begin, begin + here}, {start, start + count - here}};
  };
  SummaryLayout layout = rule_;  // of one sequence, as long as it is
  layout.summary_tokens = kept.entries;
  for (const DecodeToken& token : tokens_) {
    layout.text_tokens = token.position + 1;
    const Range text = layout.TextKeys(kept.window, 0, token.position);
    const auto [first, second] = ring(token.slot, text.begin, token.position);
    const Range seen = kept.entries > 0 ? layout.SummaryKeys(kept.window, 0, token.position) : Range{};
    const int32_t behind = kept.EntryRow(token.slot, 0, 0);
    add({first, second, {behind + seen.begin, behind + seen.end}, {}});
  }
  for (size_t j = 0; j < ended_.size() && rule_.summary_tokens > 0; ++j) {
    const DecodeToken& token = tokens_[static_cast<size_t>(ended_[j])];
    const auto [first, second] = ring(token.slot, token.position + 1 - rule_.chunk_size, token.position);
    const auto own = static_cast<int32_t>(tokens_.size() + j * static_cast<size_t>(rule_.summary_tokens));
    for (int32_t a = 0; a < rule_.summary_tokens; ++a) {
      add({first, second, {}, {own, own + a + 1}});
    }
  }
  return spans;
}

const DecodeStep::Places& DecodeStep::PlacesIn(const KeptRows& kept) {
  for (const auto& [rows, places] : places_) {
    if (rows == kept) {
      return places;
    }
  }
  std::vector<int32_t> text;
  std::vector<int32_t> entries;
  for (const DecodeToken& token : tokens_) {
    text.push_back(kept.TextRow(token.slot, token.position));
  }
  for (const int32_t token : ended_) {
    for (int32_t a = 0; a < kept.entries; ++a) {
      entries.push_back(kept.EntryRow(tokens_[static_cast<size_t>(token)].slot, ChunkOf(token), a));
    }
  }
  Places places;
  places.text = UploadNumbers(cx_, text, {text_rows()});
  if (!entries.empty()) {
    places.entries = UploadNumbers(cx_, entries, {static_cast<int64_t>(entries.size())});
  }
  places.spans = UploadNumbers(cx_, SpansIn(kept, places.most_keys), {rows(), kKeySpans, 2});
  places_.emplace_back(kept, std::move(places));
  return places_.back().second;
}

std::unique_ptr<LayerCache> BoundMixer::MakeCache(const ExecContext& /*cx*/, const CacheSpec& /*spec*/) const {
  return nullptr;
}

const DecodeStep::TapRows& DecodeStep::TapRowsOf(int32_t reach) {
  const auto [found, is_new] = taps_.try_emplace(reach);
  if (is_new) {
    std::vector<int32_t> before;
    std::vector<int32_t> own;
    for (const DecodeToken& token : tokens_) {
      for (int32_t i = 0; i < reach; ++i) {  // the token `reach - i` before: rows of a sequence's beginning are zero
        before.push_back(token.slot * reach + (token.position + i) % reach);
      }
      own.push_back(token.slot * reach + token.position % reach);
    }
    found->second.before = UploadNumbers(cx_, before, {static_cast<int64_t>(before.size())});
    found->second.own = UploadNumbers(cx_, own, {text_rows()});
  }
  return found->second;
}

}  // namespace ksa
