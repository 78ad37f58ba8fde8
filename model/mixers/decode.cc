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

namespace {

// A length that stands for all up to it: the next multiple of an eighth of its power of two. So few kinds of steps are
// enough for a text that grows, and no attention is planned for many more keys than it has.
int32_t LengthClass(int32_t tokens) {
  constexpr int32_t kLeast = 256;
  int32_t step = kLeast;
  while (step <= tokens / 16) {
    step *= 2;
  }
  return (tokens + step - 1) / step * step;
}

}  // namespace

StepTokens::StepTokens(std::vector<DecodeToken> next, const SummaryLayout& of_model)
    : tokens(std::move(next)), rule(of_model) {
  rule.sequences = 1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t length = tokens[i].position + 1;
    most_tokens = std::max(most_tokens, LengthClass(length));
    if (length % rule.chunk_size == 0) {
      ended.push_back(static_cast<int32_t>(i));
    }
  }
}

SummaryLayout StepTokens::UpTo(int32_t token) const {
  SummaryLayout layout = rule;
  layout.text_tokens = tokens[static_cast<size_t>(token)].position + 1;
  return layout;
}

std::vector<int32_t> StepTokens::Positions() const {
  std::vector<int32_t> positions;
  for (size_t i = 0; i < tokens.size(); ++i) {
    positions.push_back(UpTo(static_cast<int32_t>(i)).TextPosition(0, tokens[i].position));
  }
  for (const int32_t token : ended) {
    for (int32_t a = 0; a < rule.summary_tokens; ++a) {
      positions.push_back(UpTo(token).SummaryPosition(0, ChunkOf(token) * rule.summary_tokens + a));
    }
  }
  return positions;
}

std::vector<int32_t> StepTokens::SpansIn(const KeptRows& kept) const {
  std::vector<int32_t> spans;
  const auto add = [&](const std::array<Range, kKeySpans>& runs) {
    for (const Range& run : runs) {
      spans.push_back(run.begin);
      spans.push_back(run.size());
    }
  };
  // Tokens [first, last] of a slot: up to the ring's end, and from its beginning on.
  const auto ring = [&](int32_t slot, int32_t first, int32_t last) {
    const int32_t begin = kept.TextRow(slot, first);
    const int32_t start = slot * kept.rows();
    const int32_t count = last + 1 - first;
    const int32_t here = std::min(count, start + kept.ring - begin);
    return std::pair<Range, Range>{{begin, begin + here}, {start, start + count - here}};
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    const DecodeToken& token = tokens[i];
    SummaryLayout layout = UpTo(static_cast<int32_t>(i));
    layout.summary_tokens = kept.entries;
    const Range text = layout.TextKeys(kept.window, 0, token.position);
    const auto [first, second] = ring(token.slot, text.begin, token.position);
    const Range seen = kept.entries > 0 ? layout.SummaryKeys(kept.window, 0, token.position) : Range{};
    const int32_t behind = kept.EntryRow(token.slot, 0, 0);
    add({first, second, {behind + seen.begin, behind + seen.end}, {}});
  }
  for (size_t j = 0; j < ended.size() && rule.summary_tokens > 0; ++j) {
    const DecodeToken& token = tokens[static_cast<size_t>(ended[j])];
    const auto [first, second] = ring(token.slot, token.position + 1 - rule.chunk_size, token.position);
    const auto own = static_cast<int32_t>(tokens.size() + j * static_cast<size_t>(rule.summary_tokens));
    for (int32_t a = 0; a < rule.summary_tokens; ++a) {
      add({first, second, {}, {own, own + a + 1}});
    }
  }
  return spans;
}

// What the last token of the longest sequence sees beside its ring is the most that any sees.
int64_t StepTokens::MostKeys(const KeptRows& kept) const {
  SummaryLayout layout = rule;
  layout.text_tokens = most_tokens;
  layout.summary_tokens = kept.entries;
  const int32_t seen = kept.entries > 0 ? layout.SummaryKeys(kept.window, 0, most_tokens - 1).size() : 0;
  const int64_t of_text = int64_t{std::min(kept.ring, most_tokens)} + std::min(seen, kept.behind);
  return std::max(of_text, int64_t{rule.chunk_size} + rule.summary_tokens);
}

Tensor StepNumbers::Next(const ExecContext& cx, const StepTokens& tokens, const MakeNumbers& make) {
  if (memory_.empty()) {
    const std::vector<int32_t> numbers = make(tokens);
    const auto count = static_cast<int64_t>(numbers.size());
    lists_.push_back({make, total_, count});
    total_ += count;
    return UploadNumbers(cx, numbers, {count});
  }
  KSA_CHECK(next_ < lists_.size(), "a step asks for more numbers than the {} lists of its first run", lists_.size());
  const List& list = lists_[next_++];
  return memory_.Rows(list.begin, list.count);
}

void StepNumbers::Fix(const ExecContext& cx) {
  KSA_CHECK(memory_.empty() && total_ > 0, "numbers of a step are fixed once");
  memory_ = cx.Empty({total_}, DType::kI32);
}

void StepNumbers::Make(const StepTokens& tokens, int32_t* to) const {
  for (const List& list : lists_) {
    const std::vector<int32_t> numbers = list.make(tokens);
    KSA_CHECK(static_cast<int64_t>(numbers.size()) == list.count,
              "a step has {} numbers where its kind has {}",
              numbers.size(),
              list.count);
    std::copy(numbers.begin(), numbers.end(), to + list.begin);
  }
}

DecodeStep::DecodeStep(const ExecContext& cx, StepTokens tokens, StepNumbers* numbers)
    : cx_(cx), tokens_(std::move(tokens)), numbers_(numbers) {
  position_rows_ = Numbers([](const StepTokens& step) { return step.Positions(); });
}

Tensor DecodeStep::Numbers(const MakeNumbers& make) {
  if (numbers_ != nullptr) {
    return numbers_->Next(cx_, tokens_, make);
  }
  const std::vector<int32_t> numbers = make(tokens_);
  return UploadNumbers(cx_, numbers, {static_cast<int64_t>(numbers.size())});
}

Tensor DecodeStep::Ids() {
  return Numbers([](const StepTokens& step) {
    std::vector<int32_t> ids;
    for (const DecodeToken& token : step.tokens) {
      ids.push_back(token.id);
    }
    return ids;
  });
}

SummaryLayout DecodeStep::Layout() const {
  SummaryLayout layout = {.text_tokens = static_cast<int32_t>(text_rows())};
  layout.summary_tokens = tokens_.rule.summary_tokens;
  layout.live_chunks = layout.summary_tokens > 0 ? static_cast<int32_t>(ended()) : 0;
  return layout;
}

SummaryLayout DecodeStep::OneTokenEach() const {
  return {.sequences = static_cast<int32_t>(text_rows()),
          .text_tokens = 1,
          .total_tokens = kMostConvTaps + 1,
          .first_chunk = kMostConvTaps};
}

const Tensor& DecodeStep::Slots() {
  if (slots_.empty()) {
    slots_ = Numbers([](const StepTokens& step) {
      std::vector<int32_t> slots;
      for (const DecodeToken& token : step.tokens) {
        slots.push_back(token.slot);
      }
      return slots;
    });
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
  const Tensor at = Numbers([positions](const StepTokens& step) {
    std::vector<int32_t> numbers;
    for (const int32_t token : step.ended) {
      SummaryLayout rule = step.UpTo(token);
      rule.summary_tokens = 1;
      rule.summary_positions = positions;
      numbers.push_back(rule.SummaryPosition(0, step.ChunkOf(token)));
    }
    return numbers;
  });
  const Tensor rows = cx_.Empty(table.shape.WithRows(ended()), table.dtype);
  MoveRows({.from = table, .from_rows = at, .to = rows}, cx_.stream);
  return rows;
}

const DecodeStep::Places& DecodeStep::PlacesIn(const KeptRows& kept) {
  for (const auto& [rows, places] : places_) {
    if (rows == kept) {
      return places;
    }
  }
  Places places;
  places.text = Numbers([kept](const StepTokens& step) {
    std::vector<int32_t> text;
    for (const DecodeToken& token : step.tokens) {
      text.push_back(kept.TextRow(token.slot, token.position));
    }
    return text;
  });
  if (ended() * kept.entries > 0) {
    places.entries = Numbers([kept](const StepTokens& step) {
      std::vector<int32_t> entries;
      for (const int32_t token : step.ended) {
        for (int32_t a = 0; a < kept.entries; ++a) {
          entries.push_back(kept.EntryRow(step.tokens[static_cast<size_t>(token)].slot, step.ChunkOf(token), a));
        }
      }
      return entries;
    });
  }
  places.spans = Numbers([kept](const StepTokens& step) { return step.SpansIn(kept); }).Reshape({rows(), kKeySpans, 2});
  places.most_keys = tokens_.MostKeys(kept);
  places_.emplace_back(kept, std::move(places));
  return places_.back().second;
}

std::unique_ptr<LayerCache> BoundMixer::MakeCache(const ExecContext& /*cx*/, const CacheSpec& /*spec*/) const {
  return nullptr;
}

const DecodeStep::TapRows& DecodeStep::TapRowsOf(int32_t reach) {
  const auto [found, is_new] = taps_.try_emplace(reach);
  if (is_new) {
    found->second.before = Numbers([reach](const StepTokens& step) {
      std::vector<int32_t> before;
      for (const DecodeToken& token : step.tokens) {
        for (int32_t i = 0; i < reach; ++i) {  // the token `reach - i` before: rows of a sequence's beginning are zero
          before.push_back(token.slot * reach + (token.position + i) % reach);
        }
      }
      return before;
    });
    found->second.own = Numbers([reach](const StepTokens& step) {
      std::vector<int32_t> own;
      for (const DecodeToken& token : step.tokens) {
        own.push_back(token.slot * reach + token.position % reach);
      }
      return own;
    });
  }
  return found->second;
}

}  // namespace ksa
