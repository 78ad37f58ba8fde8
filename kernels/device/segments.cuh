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
  // At most `max_blocks` blocks (at least 2), which take `rows_at_once` rows in a turn: as many as it takes for the
  // fewest turns.
  Segments(int64_t rows, int64_t first_rows, int64_t max_blocks, int64_t rows_at_once) : n(rows), split(first_rows) {
    int64_t most = rows_at_once * std::max<int64_t>(1, n / (max_blocks * rows_at_once));  // rows of a block
    const auto blocks_of = [&](int64_t part) { return (part + most - 1) / most; };
    while (blocks_of(split) + blocks_of(n - split) > max_blocks) {
      most += rows_at_once;
    }
    first_blocks = blocks_of(split);
    second_blocks = blocks_of(n - split);
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
