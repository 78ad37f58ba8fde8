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
  if (open_ == 0) {
    return;
  }
  if (call.step == nullptr) {
    std::vector<int32_t> from;
    std::vector<int32_t> to;
    const int32_t tokens = call.layout.text_tokens;
    for (int32_t i = tokens / call.layout.chunk_size * call.layout.chunk_size; i < tokens; ++i) {
      from.push_back(i);
      to.push_back(call.slot * open_ + i % call.layout.chunk_size);
    }
    const Shape shape = {static_cast<int64_t>(from.size())};
    MoveOpen(rows, UploadNumbers(cx, from, shape), UploadNumbers(cx, to, shape), cx.stream);
    return;
  }
  DecodeStep& step = *call.step;
  if (step.ended() == step.text_rows()) {
    return;
  }
  const auto goes_on = [](const StepTokens& of, const DecodeToken& token) {
    return token.position % of.rule.chunk_size != of.rule.chunk_size - 1;
  };
  const Tensor from = step.Numbers([goes_on](const StepTokens& of) {
    std::vector<int32_t> numbers;
    for (size_t i = 0; i < of.tokens.size(); ++i) {
      if (goes_on(of, of.tokens[i])) {
        numbers.push_back(static_cast<int32_t>(i));
      }
    }
    return numbers;
  });
  const Tensor to = step.Numbers([goes_on, open = open_](const StepTokens& of) {
    std::vector<int32_t> numbers;
    for (const DecodeToken& token : of.tokens) {
      if (goes_on(of, token)) {
        numbers.push_back(token.slot * open + token.position % of.rule.chunk_size);
      }
    }
    return numbers;
  });
  MoveOpen(rows, from, to, cx.stream);
}

void HcaCache::MoveOpen(const Open& rows, const Tensor& from, const Tensor& to, const Stream& stream) {
  for (size_t i = 0; i < rows_.size() && from.size() > 0; ++i) {
    if (!rows_[i].empty()) {
      MoveRows({.from = rows[i].value, .from_rows = from, .to = rows_[i], .to_rows = to}, stream);
    }
  }
}

HcaCache::Open HcaCache::WholeChunks(const ExecContext& cx, const Open& rows, const MixerCall& call) const {
  DecodeStep& step = *call.step;
  const int32_t k = step.chunk_size();
  // Of each ended chunk's first k - 1 rows: where they are kept, or in the ring, and where they go; and the last one's.
  const auto first_rows = [k](const auto& row_of) {
    return [k, row_of](const StepTokens& of) {
      std::vector<int32_t> numbers;
      for (size_t j = 0; j < of.ended.size(); ++j) {
        for (int32_t s = 0; s < k - 1; ++s) {
          numbers.push_back(row_of(of.tokens[static_cast<size_t>(of.ended[j])], static_cast<int32_t>(j), s));
        }
      }
      return numbers;
    };
  };
  const auto in_open = [open = open_](const DecodeToken& token, int32_t, int32_t s) { return token.slot * open + s; };
  const auto in_ring = [k, kept = kept()](const DecodeToken& token, int32_t, int32_t s) {
    return kept.TextRow(token.slot, token.position + 1 - k + s);
  };
  const auto in_chunks = [k](const DecodeToken&, int32_t j, int32_t s) { return j * k + s; };
  const Tensor ended = step.Numbers([](const StepTokens& of) { return of.ended; });
  const Tensor last_rows = step.Numbers([k](const StepTokens& of) {
    std::vector<int32_t> numbers;
    for (size_t j = 0; j < of.ended.size(); ++j) {
      numbers.push_back(static_cast<int32_t>(j) * k + k - 1);
    }
    return numbers;
  });
  Open whole;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].value.empty()) {
      continue;
    }
    const Tensor chunks = cx.Empty({step.ended() * k, rows[i].cols()}, rows[i].value.dtype());
    MoveRows({.from = rows[i].value, .from_rows = ended, .to = chunks, .to_rows = last_rows}, cx.stream);
    if (k > 1) {
      const bool from_ring = i == kValues && rows_[i].empty();
      const Tensor from = from_ring ? step.Numbers(first_rows(in_ring)) : step.Numbers(first_rows(in_open));
      MoveRows({.from = from_ring ? values() : rows_[i],
                .from_rows = from,
                .to = chunks,
                .to_rows = step.Numbers(first_rows(in_chunks))},
               cx.stream);
    }
    whole[i] = {chunks, rows[i].placement};
  }
  return whole;
}

}  // namespace ksa
