// Visible pairs of attention, counted from the real mask by arithmetic over the chunks. Of a layout that holds a part
// of its sequences: those of that part's queries, wherever their keys lie. Documents and padding are respected.
#pragma once

#include <cstdint>

#include "kernels/core/summary_layout.h"
#include "model/mixers/cost.h"

namespace ksa {

// Of text queries.
[[nodiscard]] PairCount CountTextPairs(const SummaryLayout& layout, const AttentionWindow& window);

// Summaries that some text can see where the smallest window is `window_chunks`, and what they see as queries. In
// packed documents these are fewer than the layout has rows.
struct LiveSummaries {
  int64_t rows = 0;
  int64_t pairs = 0;
};

[[nodiscard]] LiveSummaries CountLiveSummaries(const SummaryLayout& layout, int32_t window_chunks);

// Rows that are not padding.
[[nodiscard]] int64_t CountTextTokens(const SummaryLayout& layout);

}  // namespace ksa
