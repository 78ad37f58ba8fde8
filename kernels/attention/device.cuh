// What the CUDA kernels of attention share: which keys and readers a row has.
#pragma once

#include <cstdint>

#include "kernels/attention/problem.h"
#include "kernels/core/dtype.h"

namespace ksa::cuda_attention {

// Two stretches of rows of a tensor: text rows first[0].. and summary rows first[1]...
struct RowRanges {
  int64_t first[2];
  int32_t count[2];
};

// The keys that query row `row` sees, as rows of k and v.
__device__ inline RowRanges KeysOfRow(const Problem& problem, int64_t row) {
  const SummaryLayout& layout = problem.layout;
  const SummaryLayout::Place at = layout.Locate(row);
  const Range text = at.is_text ? layout.TextKeys(problem.window, at.sequence, at.index)
                                : layout.SummaryTextKeys(at.sequence, at.index);
  const Range summaries =
      at.is_text ? layout.SummaryKeys(problem.window, at.sequence, at.index) : layout.SummarySummaryKeys(at.index);
  return {{layout.TextRow(at.sequence, text.begin), layout.SummaryRow(at.sequence, summaries.begin)},
          {text.size(), summaries.size()}};
}

// The text queries that see key row `row`, and the summary queries that do, as rows of q.
__device__ inline RowRanges ReadersOfRow(const Problem& problem, int64_t row) {
  const SummaryLayout& layout = problem.layout;
  const SummaryLayout::Place at = layout.Locate(row);
  const Range text = at.is_text ? layout.TextReadersOfText(problem.window, at.sequence, at.index)
                                : layout.TextReadersOfSummary(problem.window, at.sequence, at.index);
  const Range summaries =
      at.is_text ? layout.SummaryReadersOfText(at.sequence, at.index) : layout.SummaryReadersOfSummary(at.index);
  return {{layout.TextRow(at.sequence, text.begin), layout.SummaryRow(at.sequence, summaries.begin)},
          {text.size(), problem.query_summaries ? summaries.size() : 0}};
}

}  // namespace ksa::cuda_attention
