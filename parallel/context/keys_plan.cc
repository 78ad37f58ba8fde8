#include "parallel/context/keys_plan.h"

#include <algorithm>
#include <numeric>

#include "parallel/context/slices.h"

namespace ksa {
namespace {

// The runs of a rank with what they need, and the buffers that hold it.
void AddRuns(
    const SummaryLayout& whole, const AttentionWindow& window, const ContextSlices& slices, int rank, KeysPlan& plan) {
  for (const Range& own : slices.RunsOf(rank)) {
    const Range keys = {FirstKeyChunk(whole, window, own.begin), own.end};
    if (!plan.buffers.empty() && keys.begin <= plan.buffers.back().end) {
      plan.buffers.back().end = keys.end;
    } else {
      plan.buffers.push_back(keys);
    }
    plan.runs.push_back({own, keys, static_cast<int>(plan.buffers.size()) - 1});
  }
}

// What `rank` receives of the text of other ranks.
std::vector<ChunkPiece> TextNeeds(const SummaryLayout& whole,
                                  const AttentionWindow& window,
                                  const ContextSlices& slices,
                                  int rank) {
  KeysPlan plan;
  AddRuns(whole, window, slices, rank, plan);
  std::vector<ChunkPiece> needs;
  for (int peer = 0; peer < slices.ranks(); ++peer) {
    if (peer == rank) {
      continue;
    }
    for (const Range& slice : slices.ChunksOf(peer)) {
      for (const Range& buffer : plan.buffers) {
        const Range piece = {std::max(slice.begin, buffer.begin), std::min(slice.end, buffer.end)};
        if (piece.size() > 0) {
          needs.push_back({peer, piece});
        }
      }
    }
  }
  return needs;
}

std::vector<Range> LiveChunksOf(const SummaryLayout& whole, const ContextSlices& slices, int rank) {
  std::vector<Range> live;
  for (const Range& slice : slices.ChunksOf(rank)) {
    const Range part = {slice.begin, std::min(slice.end, whole.live_chunks)};
    if (part.size() > 0) {
      live.push_back(part);
    }
  }
  return live;
}

void AddSummaries(const SummaryLayout& whole, const ContextSlices& slices, int rank, KeysPlan& plan) {
  plan.own_live = LiveChunksOf(whole, slices, rank);
  for (int peer = 0; peer < slices.ranks(); ++peer) {
    if (peer == rank) {
      continue;
    }
    for (const Range& live : plan.own_live) {
      plan.summary_sends.push_back({peer, live});
    }
    for (const Range& live : LiveChunksOf(whole, slices, peer)) {
      plan.summary_receives.push_back({peer, live});
    }
  }
}

}  // namespace

int32_t FirstKeyChunk(const SummaryLayout& whole, const AttentionWindow& window, int32_t first) {
  const int64_t by_chunks = int64_t{first} - window.chunks;
  const int64_t token = int64_t{first} * whole.chunk_size - (int64_t{window.tokens} - 1);
  const int64_t by_tokens = token > 0 ? token / whole.chunk_size : 0;
  return static_cast<int32_t>(std::max<int64_t>({0, by_chunks, by_tokens}));
}

KeysPlan PlanKeys(const SummaryLayout& whole, const AttentionWindow& window, int ranks, int rank) {
  const ContextSlices slices(whole.chunks(), ranks);
  KeysPlan plan;
  AddRuns(whole, window, slices, rank, plan);
  plan.text_receives = TextNeeds(whole, window, slices, rank);
  for (int peer = 0; peer < ranks; ++peer) {
    for (const ChunkPiece& need : peer == rank ? std::vector<ChunkPiece>() : TextNeeds(whole, window, slices, peer)) {
      if (need.peer == rank) {
        plan.text_sends.push_back({peer, need.chunks});
      }
    }
  }
  if (window.summaries && whole.live_summaries() > 0) {
    AddSummaries(whole, slices, rank, plan);
  }
  return plan;
}

ExchangedRows RowsOf(const KeysPlan& plan, const SummaryLayout& whole) {
  const auto text = [&](const std::vector<ChunkPiece>& pieces) {
    return std::accumulate(pieces.begin(), pieces.end(), int64_t{0}, [&](int64_t sum, const ChunkPiece& piece) {
      return sum + TokensOf(whole, piece.chunks);
    });
  };
  const auto summaries = [&](const std::vector<ChunkPiece>& pieces) {
    return std::accumulate(pieces.begin(), pieces.end(), int64_t{0}, [&](int64_t sum, const ChunkPiece& piece) {
      return sum + int64_t{1} * piece.chunks.size() * whole.summary_tokens;
    });
  };
  return {whole.sequences * (text(plan.text_sends) + summaries(plan.summary_sends)),
          whole.sequences * (text(plan.text_receives) + summaries(plan.summary_receives))};
}

ExchangedRows HeadExchangeElements(const SummaryLayout& whole, int ranks, int rank, bool summaries, int64_t columns) {
  const SummaryLayout local = MakeLocalLayout(whole, ranks, rank);
  const auto rows = [summaries](const SummaryLayout& layout) { return summaries ? layout.rows() : layout.text_rows(); };
  const int64_t block = columns / ranks;
  return {rows(local) * block * (ranks - 1), (rows(whole) - rows(local)) * block};
}

}  // namespace ksa
