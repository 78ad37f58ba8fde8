#include "kernels/attention/pairs.h"

#include <algorithm>

namespace ksa {
namespace {

// sum over x = first + 1 .. first + count of min(x, limit)
int64_t SumOfMinima(int64_t first, int64_t count, int64_t limit) {
  const int64_t rising = std::clamp<int64_t>(limit - first, 0, count);
  return rising * first + rising * (rising + 1) / 2 + (count - rising) * limit;
}

// Whether text of a later chunk of the same document sees the summaries of `chunk` in a layer with `window_chunks`.
bool IsLive(const SummaryLayout& layout, int32_t sequence, int32_t chunk, int32_t window_chunks) {
  const int64_t reader = int64_t{1} * chunk + window_chunks + 1;
  return reader < layout.total_chunks() &&
         layout.DocumentChunk(sequence, static_cast<int32_t>(reader)) == layout.DocumentChunk(sequence, chunk);
}

// Calls function(sequence, chunk) for the chunks that are here, by the sequence's numbers.
template <typename Function>
void ForEachChunk(const SummaryLayout& layout, const Function& function) {
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t place = 0; place < layout.chunks(); ++place) {
      function(sequence, layout.ChunkAt(place));
    }
  }
}

}  // namespace

PairCount CountTextPairs(const SummaryLayout& layout, const AttentionWindow& window) {
  const Range queries = layout.Queries();
  const int32_t k = layout.chunk_size;
  PairCount pairs;
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t place = queries.begin / k; place * k < queries.end; ++place) {
      const int32_t chunk = layout.ChunkAt(place);
      const int64_t begin = std::max(0, queries.begin - place * k);  // of the chunk's tokens
      const int64_t end = std::min(layout.ChunkTokens(sequence, chunk), queries.end - place * k);
      const int64_t tokens = std::max<int64_t>(0, end - begin);
      const int64_t before = chunk - layout.DocumentChunk(sequence, chunk);
      const int64_t in_window = std::min<int64_t>(before, window.chunks);
      pairs.text += SumOfMinima(in_window * k + begin, tokens, window.tokens);
      if (window.summaries) {
        const int64_t own = window.overlap && end == k && tokens > 0 ? 1 : 0;  // seen by the last token
        pairs.summary += (tokens * (before - (window.overlap ? 0 : in_window)) + own) * layout.summary_tokens;
      }
    }
  }
  return pairs;
}

int64_t CountSummaryPairs(const SummaryLayout& layout) {
  const int64_t m = layout.summary_tokens;
  int64_t pairs = 0;
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t place = 0; place < layout.live_chunks; ++place) {
      pairs += m * layout.ChunkTokens(sequence, layout.ChunkAt(place)) + m * (m + 1) / 2;
    }
  }
  return pairs;
}

LiveSummaries CountLiveSummaries(const SummaryLayout& layout, int32_t window_chunks) {
  LiveSummaries live;
  const int64_t m = layout.summary_tokens;
  ForEachChunk(layout, [&](int32_t sequence, int32_t chunk) {
    if (IsLive(layout, sequence, chunk, window_chunks)) {
      live.rows += m;
      live.pairs += m * layout.ChunkTokens(sequence, chunk) + m * (m + 1) / 2;
    }
  });
  return live;
}

int64_t CountTextTokens(const SummaryLayout& layout) {
  int64_t tokens = 0;
  ForEachChunk(layout, [&](int32_t sequence, int32_t chunk) { tokens += layout.ChunkTokens(sequence, chunk); });
  return tokens;
}

}  // namespace ksa
