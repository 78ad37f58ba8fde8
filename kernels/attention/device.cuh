// What the CUDA kernels of attention share: the problem as kernels take it, and which keys and readers a row has.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/core/dtype.h"

namespace ksa::cuda_attention {

inline constexpr float kLog2E = 1.44269504088896341F;
inline constexpr float kLn2 = 0.693147180559945309F;

// Sizes of one call, passed to kernels by value.
struct Problem {
  SummaryLayout layout;
  AttentionWindow window;
  int heads;             // h
  int groups;            // g
  int queries_per_kv;    // h / g
  int dim;               // e
  float scale;           // 1 / sqrt(e)
  float scale_log2;      // the same times log2(e): kernels exponentiate with base 2
  bool query_summaries;  // q holds summary rows too
};

template <typename Args>
[[nodiscard]] Problem MakeProblem(const Args& args) {
  const auto heads = static_cast<int>(args.q.shape[1]);
  const auto groups = static_cast<int>(args.k.shape[1]);
  const auto dim = static_cast<int>(args.q.shape[2]);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));
  return {.layout = args.layout,
          .window = args.window,
          .heads = heads,
          .groups = groups,
          .queries_per_kv = heads / groups,
          .dim = dim,
          .scale = scale,
          .scale_log2 = scale * kLog2E,
          .query_summaries = args.q.rows() > args.layout.text_rows()};
}

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
