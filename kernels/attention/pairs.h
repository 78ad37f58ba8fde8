// Visible pairs of attention, counted from the real mask by arithmetic over the chunks. Of a layout that holds a part
// of its sequences: those of that part's queries, wherever their keys lie. Documents and padding are respected.
#pragma once

#include <cstdint>

#include "kernels/core/summary_layout.h"

namespace ksa {

// Visible (query, key) pairs, summed over the sequences of a layout.
struct PairCount {
  int64_t text = 0;           // text query, text key
  int64_t summary = 0;        // text query, summary key
  int64_t summary_query = 0;  // query of a summary, any key

  [[nodiscard]] int64_t OfTextQueries() const { return text + summary; }

  [[nodiscard]] int64_t Total() const { return text + summary + summary_query; }
};

// Of the text rows that are queries (layout.Queries()).
[[nodiscard]] PairCount CountTextPairs(const SummaryLayout& layout, const AttentionWindow& window);

// Of all summary rows of the layout: what they see as queries.
[[nodiscard]] int64_t CountSummaryPairs(const SummaryLayout& layout);

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
