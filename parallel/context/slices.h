// Context parallelism: which part of every sequence a rank holds.
//
// A sequence of C chunks is cut into 2P slices of whole chunks for P ranks; slice s owns chunks [floor(s·C/2P),
// floor((s+1)·C/2P)), and rank r owns slices r and 2P-1-r (zigzag: causal work, and work linear in the position, are
// balanced). A rank's rows: per sequence the text of its lower slice, then of its upper one; behind all text, per
// sequence the summaries of those of its chunks that are live.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/core/summary_layout.h"

namespace ksa {

class ContextSlices {
 public:
  // More than one rank need a chunk for every slice: chunks >= 2·ranks.
  ContextSlices(int32_t chunks, int ranks);

  [[nodiscard]] int ranks() const { return ranks_; }

  [[nodiscard]] int slices() const { return 2 * ranks_; }

  [[nodiscard]] Range Chunks(int slice) const;

  [[nodiscard]] int Owner(int slice) const { return slice < ranks_ ? slice : slices() - 1 - slice; }

  // The slices of a rank, the lower one first.
  [[nodiscard]] std::array<Range, 2> ChunksOf(int rank) const;

  // The same as runs without a gap between them: one where the rank's slices are neighbours (the last rank), else two.
  [[nodiscard]] std::vector<Range> RunsOf(int rank) const;

 private:
  int32_t chunks_;
  int ranks_;
};

// Text tokens of chunks [begin, end) of a sequence; the last chunk of the sequence may be short.
[[nodiscard]] int32_t TokensOf(const SummaryLayout& whole, Range chunks);

// The rows of rank `rank` of a batch whose whole sequences `whole` lays out. With one rank `whole` itself.
[[nodiscard]] SummaryLayout MakeLocalLayout(const SummaryLayout& whole, int ranks, int rank);

// The place of one of the rank's own chunks among them.
[[nodiscard]] int32_t PlaceOf(const SummaryLayout& local, int32_t chunk);

// Rows that lie side by side in a rank's matrix and in the matrix of whole sequences.
struct RowSegment {
  int64_t local = 0;  // first row among the rank's rows
  int64_t whole = 0;  // first row among those of `whole`
  int64_t rows = 0;
};

// All rows of a rank in their order: its text, then with `summaries` its live summaries. Segments without rows are left
// out.
[[nodiscard]] std::vector<RowSegment> SegmentsOf(const SummaryLayout& whole, int ranks, int rank, bool summaries);

}  // namespace ksa
