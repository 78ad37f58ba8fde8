// Loops over the threads of a CPU stream. Include only from files that are compiled with OpenMP.
//
// Work is cut by sizes alone, never by the number of threads, so results do not depend on it. The functions that are
// passed in run inside a parallel region and must not throw.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/core/device.h"

namespace ksa {

// Below so many elements, waking threads costs more than it saves.
inline constexpr int64_t kSerialElements = 16384;

[[nodiscard]] inline int ThreadsFor(const Stream& stream, int64_t elements) {
  return elements < kSerialElements ? 1 : stream.threads;
}

// function(i) for i in [0, count); one call touches about `elements` elements.
template <typename Function>
void ParallelFor(const Stream& stream, int64_t count, int64_t elements, const Function& function) {
  const int threads = ThreadsFor(stream, count * elements);
  if (threads == 1) {
    for (int64_t i = 0; i < count; ++i) {
      function(i);
    }
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    function(i);
  }
}

// function(begin, end) over [0, size) in ranges of kRangeElements.
inline constexpr int64_t kRangeElements = 4096;

template <typename Function>
void ParallelRanges(const Stream& stream, int64_t size, const Function& function) {
  ParallelFor(stream, (size + kRangeElements - 1) / kRangeElements, kRangeElements, [&](int64_t i) {
    function(i * kRangeElements, std::min(size, (i + 1) * kRangeElements));
  });
}

// out[c] = (accumulate ? out[c] : 0) + sum over rows r in [first, last) of what add_row(r, sums) adds to sums[c], for
// c in [0, cols). Rows are summed in at most 64 blocks, and blocks in ascending order. `elements`: touched per row.
// add_row is called once for every row, also when `out` is null and the sums are not wanted.
template <typename A, typename AddRow>
struct RowSums {
  int64_t first = 0;
  int64_t last = 0;
  int64_t cols = 0;
  int64_t elements = 0;
  A* out = nullptr;
  bool accumulate = false;
  const AddRow& add_row;

  void Run(const Stream& stream) const {
    constexpr int64_t kMaxBlocks = 64;
    constexpr int64_t kMinBlockRows = 16;
    const int64_t rows = last - first;
    const int64_t block = std::max(kMinBlockRows, (rows + kMaxBlocks - 1) / kMaxBlocks);
    const int64_t blocks = (rows + block - 1) / block;
    std::vector<A> partials(static_cast<size_t>(blocks * cols), A{});
    ParallelFor(stream, blocks, block * elements, [&](int64_t b) {
      A* sums = partials.data() + b * cols;
      for (int64_t r = first + b * block; r < std::min(last, first + (b + 1) * block); ++r) {
        add_row(r, sums);
      }
    });
    if (out == nullptr) {
      return;
    }
    if (!accumulate) {
      std::fill_n(out, cols, A{});
    }
    for (int64_t b = 0; b < blocks; ++b) {
      const A* sums = partials.data() + b * cols;
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) {
        out[c] += sums[c];
      }
    }
  }
};

}  // namespace ksa
