// Pools the rows of a chunk into one, channel by channel, by a softmax over the chunk's rows:
//
//   y_e = sum over slots s of p_s ⊙ x_(row s of the chunk),  p = softmax over s of (gate_(row s) + bias_s)
//
// as the compressor of DeepSeek-V4's heavily compressed attention does (arXiv 2606.19348, 2.3.2). One or two matrices
// are pooled by the same gate: keys and values.
//
// Shapes: c channels, k rows a chunk, one entry for each of the layout's summary rows (m = 1): E rows. The entry of a
// chunk with fewer than k real tokens is 0, and no gradient comes from it. Matrices of rows hold text rows of the
// layout from the first on, at least PooledRows(layout) of them.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

inline constexpr int kMostPooled = 2;

// Text rows up to the last one of a chunk that has an entry.
[[nodiscard]] inline int64_t PooledRows(const SummaryLayout& layout) {
  return layout.live_chunks == 0 ? 0 : layout.TextRow(layout.sequences - 1, layout.live_chunks * layout.chunk_size);
}

struct ChunkPoolForwardArgs {
  TensorView gate;                          // [rows, c]
  TensorView bias;                          // [k, c]
  std::array<TensorView, kMostPooled> x{};  // [rows, c]; the second may be empty
  std::array<TensorView, kMostPooled> y{};  // [E, c] out
  SummaryLayout layout;                     // with summary_tokens 1
};

// In the accumulation type, rounded once.
void ChunkPoolForward(const ChunkPoolForwardArgs& args, const Stream& stream);

struct ChunkPoolBackwardArgs {
  TensorView gate;
  TensorView bias;
  std::array<TensorView, kMostPooled> x{};
  std::array<TensorView, kMostPooled> dy{};  // [E, c]
  TensorView dgate;                          // out, shaped like gate: 0 where no entry is
  std::array<TensorView, kMostPooled> dx{};  // out, shaped like x
  TensorView dbias;                          // [k, c] accumulation type
  bool accumulate = true;                    // of dbias
  SummaryLayout layout;
  // Of scratch for the bias's gradient on a GPU, freed before the call returns. The CPU does not use it.
  Allocator* allocator = nullptr;
};

// The order of additions depends on the shapes alone. Recomputes what forward did instead of having it kept.
void ChunkPoolBackward(const ChunkPoolBackwardArgs& args, const Stream& stream);

}  // namespace ksa
