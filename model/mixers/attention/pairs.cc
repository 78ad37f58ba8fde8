#include "model/mixers/attention/pairs.h"

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
  PairCount pairs;
  ForEachChunk(layout, [&](int32_t sequence, int32_t chunk) {
    const int64_t tokens = layout.ChunkTokens(sequence, chunk);
    const int64_t before = chunk - layout.DocumentChunk(sequence, chunk);
    const int64_t in_window = std::min<int64_t>(before, window.chunks);
    pairs.text += SumOfMinima(in_window * layout.chunk_size, tokens, window.tokens);
    if (window.summaries) {
      const int64_t own = window.overlap && tokens == layout.chunk_size ? 1 : 0;  // seen by the last token
      pairs.summary += (tokens * (before - (window.overlap ? 0 : in_window)) + own) * layout.summary_tokens;
    }
  });
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
