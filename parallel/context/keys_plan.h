// Context parallelism of attention over keys of other ranks: what the text of a rank sees beyond its own rows, and who
// sends it. Arithmetic on chunks; the same for every sequence of a batch.
//
// A slice whose first chunk is f needs the text of chunks [max(0, f - w), f) (a halo, from as many owners as that
// takes; swa: the chunks that hold the window - 1 tokens before it; full layers: everything before it), and in layers
// whose text sees summaries those of all live chunks. A rank receives the union of what its slices need, less its own
// chunks, once. Documents do not change these sets. Source: docs/ksa.md (who sees whom).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/summary_layout.h"

namespace ksa {

// Chunks [begin, end), all of one slice, that come from or go to a peer.
struct ChunkPiece {
  int peer = 0;
  Range chunks;

  friend bool operator==(const ChunkPiece& a, const ChunkPiece& b) {
    return a.peer == b.peer && a.chunks.begin == b.chunks.begin && a.chunks.end == b.chunks.end;
  }
};

// A run of the rank's own chunks, whose text is the queries of one call of attention.
struct QueryRun {
  Range own;
  Range keys;      // the chunks whose text it needs: [h, own.end), its own among them
  int buffer = 0;  // which buffer of the plan holds them
};

struct KeysPlan {
  std::vector<QueryRun> runs;
  // The union of the runs' key chunks: one range, or two with a gap between them. Text keys are assembled in these.
  std::vector<Range> buffers;
  // Text, then summaries; by peer, then by chunk. Both ends list what one sends to the other in the same order.
  std::vector<ChunkPiece> text_sends;
  std::vector<ChunkPiece> text_receives;
  std::vector<ChunkPiece> summary_sends;
  std::vector<ChunkPiece> summary_receives;
  std::vector<Range> own_live;  // the rank's live chunks whose summaries text sees; none where it sees no summaries
};

// For rank `rank` of `ranks` of a batch that `whole` lays out.
[[nodiscard]] KeysPlan PlanKeys(const SummaryLayout& whole, const AttentionWindow& window, int ranks, int rank);

// First chunk whose text the text of chunk `first` sees.
[[nodiscard]] int32_t FirstKeyChunk(const SummaryLayout& whole, const AttentionWindow& window, int32_t first);

// Rows that leave and reach a rank for all sequences of a batch: of k, and as many of v. Backward they travel the other
// way. A row is g·e elements.
struct ExchangedRows {
  int64_t sent = 0;
  int64_t received = 0;
};

[[nodiscard]] ExchangedRows RowsOf(const KeysPlan& plan, const SummaryLayout& whole);

// Of a rank whose heads are gathered instead (all-to-all): every matrix of `rows` local rows of `columns` columns, and
// as many elements come back, is sent but for this rank's part of the columns. Elements.
[[nodiscard]] ExchangedRows HeadExchangeElements(
    const SummaryLayout& whole, int ranks, int rank, bool summaries, int64_t columns);

}  // namespace ksa
