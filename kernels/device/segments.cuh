// Rows in two segments, each with a weight of its own whose gradient is a sum over the segment: which block takes
// which.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ksa::device {

// Rows [0, split) are the first segment, [split, n) the second. Blocks [0, first_blocks) share the rows of the first,
// the next second_blocks those of the second. Depends on the numbers alone, for the blocks' partial sums make the
// result.
struct Segments {
  // At most `max_blocks` blocks (at least 2), and as few as leave `rows_at_once` rows to each.
  Segments(int64_t rows, int64_t first_rows, int64_t max_blocks, int64_t rows_at_once) : n(rows), split(first_rows) {
    const int64_t rest = n - split;
    const int64_t share =
        n == 0 ? 0 : std::clamp<int64_t>(max_blocks * split / n, split > 0 ? 1 : 0, max_blocks - (rest > 0 ? 1 : 0));
    first_blocks = std::min(share, (split + rows_at_once - 1) / rows_at_once);
    second_blocks = std::min(max_blocks - share, (rest + rows_at_once - 1) / rows_at_once);
  }

  [[nodiscard]] __host__ __device__ int64_t blocks() const { return first_blocks + second_blocks; }

  int64_t n;
  int64_t split;
  int64_t first_blocks;
  int64_t second_blocks;
};

// The rows of this block: first, first + 1, ..., first + rows_at_once - 1, then the same from first + step on, before
// last.
struct BlockRows {
  __device__ BlockRows(const Segments& segments, int rows_at_once)
      : second(blockIdx.x >= segments.first_blocks),
        first((second ? segments.split : 0) + (blockIdx.x - (second ? segments.first_blocks : 0)) * rows_at_once),
        last(second ? segments.n : segments.split),
        step((second ? segments.second_blocks : segments.first_blocks) * rows_at_once) {}

  bool second;
  int64_t first;
  int64_t last;
  int64_t step;
};

}  // namespace ksa::device
