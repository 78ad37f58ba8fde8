// Context parallelism in layouts: what ranks hold of whole sequences, and the stretches of one that a call of attention
// is given. For tests: written apart from the code that ranks run.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/summary_layout.h"

namespace ksa::testing {

// Chunks of slice `slice` of 2P, P = `ranks`: rank r holds slices r and 2P - 1 - r.
inline Range SliceChunks(const SummaryLayout& whole, int32_t ranks, int32_t slice) {
  const int64_t chunks = whole.chunks();
  const auto at = [&](int64_t s) { return static_cast<int32_t>(s * chunks / (2 * ranks)); };
  return {at(slice), at(slice + 1)};
}

inline int32_t TokensOf(const SummaryLayout& whole, Range chunks) {
  const auto begin = [&](int32_t chunk) { return std::min(chunk * whole.chunk_size, whole.text_tokens); };
  return begin(chunks.end) - begin(chunks.begin);
}

// What rank `rank` holds of every sequence of `whole`: two slices, and the summaries of their live chunks.
inline SummaryLayout RankLayout(const SummaryLayout& whole, int32_t ranks, int32_t rank) {
  const Range first = SliceChunks(whole, ranks, rank);
  const Range second = SliceChunks(whole, ranks, 2 * ranks - 1 - rank);
  const auto live = [&](Range chunks) {
    return std::min(chunks.end, whole.live_chunks) - std::min(chunks.begin, whole.live_chunks);
  };
  SummaryLayout layout = whole;
  layout.total_tokens = whole.text_tokens;
  layout.text_tokens = TokensOf(whole, first) + TokensOf(whole, second);
  layout.live_chunks = live(first) + live(second);
  layout.first_chunk = first.begin;
  layout.run_chunks = first.size();
  layout.second_chunk = second.begin;
  return layout;
}

// The text of the chunks `here` of one sequence of `whole`, of which that of the chunks `queries` are queries, and the
// live summaries of all of the sequence, gathered.
inline SummaryLayout PartLayout(const SummaryLayout& whole, int32_t sequence, Range here, Range queries) {
  SummaryLayout layout = whole;
  layout.sequences = 1;
  layout.total_tokens = whole.text_tokens;
  layout.text_tokens = TokensOf(whole, here);
  layout.first_chunk = here.begin;
  layout.gathered_summaries = true;
  layout.query_begin = TokensOf(whole, {here.begin, queries.begin});
  layout.query_end = layout.query_begin + TokensOf(whole, queries);
  if (whole.document_first_chunk != nullptr) {
    layout.document_first_chunk += int64_t{1} * sequence * whole.chunks();
    layout.chunk_tokens += int64_t{1} * sequence * whole.chunks();
  }
  return layout;
}

// The row of one sequence of the whole that row `row` of a part is.
inline RowId WholeRow(const SummaryLayout& part, RowId row) {
  if (!row.is_summary) {
    return {false, part.ChunkOfText(row.index) * part.chunk_size + row.index % part.chunk_size};
  }
  const int32_t m = part.summary_tokens;
  return {true, part.ChunkOfSummary(row.index) * m + row.index % m};
}

// The same as numbers of rows of the matrices of all rows; a part of one sequence is of sequence `first_sequence`.
inline int64_t WholeRow(const SummaryLayout& whole, const SummaryLayout& part, int32_t first_sequence, int64_t row) {
  const bool is_summary = row >= part.text_rows();
  const int64_t local = is_summary ? row - part.text_rows() : row;
  const int64_t per_sequence = is_summary ? part.live_summaries() : part.text_tokens;
  const auto sequence = first_sequence + static_cast<int32_t>(local / per_sequence);
  const int32_t index = WholeRow(part, {is_summary, static_cast<int32_t>(local % per_sequence)}).index;
  return is_summary ? whole.SummaryRow(sequence, index) : whole.TextRow(sequence, index);
}

}  // namespace ksa::testing
