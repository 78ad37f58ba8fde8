// The attention calls of context parallelism as cases: those that the ranks make, together, instead of one call of
// whole sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/kernels/attention/attention_case.h"
#include "tests/support/context_layout.h"

namespace ksa::testing {

// The text call of slice `slice` of one sequence: the slice's queries, the text from the chunk on where what the first
// one sees begins, and `behind` more chunks, which none of them sees. Summaries, where the whole has them as keys, are
// gathered.
inline AttentionCase TextCall(
    const AttentionCase& whole, int32_t ranks, int32_t sequence, int32_t slice, int32_t behind = 0) {
  const SummaryLayout& layout = whole.layout;
  const Range queries = SliceChunks(layout, ranks, slice);
  const int64_t token = int64_t{1} * queries.begin * layout.chunk_size;
  const int64_t halo = std::max<int64_t>(
      {0, int64_t{1} * queries.begin - whole.window.chunks, (token - whole.window.tokens + 1) / layout.chunk_size});
  const Range here = {static_cast<int32_t>(halo), std::min(layout.chunks(), queries.end + behind)};
  AttentionCase call = whole;
  call.query_summaries = false;
  call.layout = PartLayout(layout, sequence, here, queries);
  for (std::vector<int32_t>* table : {&call.first_chunk, &call.chunk_tokens}) {
    if (!table->empty()) {
      const auto begin = table->begin() + int64_t{1} * sequence * layout.chunks();
      *table = std::vector<int32_t>(begin, begin + layout.chunks());
    }
  }
  return call;
}

// The summary call of a rank: the summaries that it has of every sequence, with their chunks.
inline AttentionCase SummaryCall(const AttentionCase& whole, int32_t ranks, int32_t rank) {
  AttentionCase call = whole;
  call.text_queries = false;
  call.layout = RankLayout(whole.layout, ranks, rank);
  return call;
}

// The calls of all ranks.
inline std::vector<AttentionCase> CallsOfRanks(const AttentionCase& whole, int32_t ranks) {
  std::vector<AttentionCase> calls;
  for (int32_t sequence = 0; sequence < whole.layout.sequences; ++sequence) {
    for (int32_t slice = 0; slice < 2 * ranks; ++slice) {
      calls.push_back(TextCall(whole, ranks, sequence, slice));
    }
  }
  for (int32_t rank = 0; rank < ranks && whole.query_summaries; ++rank) {
    calls.push_back(SummaryCall(whole, ranks, rank));
  }
  return calls;
}

}  // namespace ksa::testing
