// Scratch of pooling's backward on a GPU, and on a dry stream.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/pool/chunk_pool.h"

namespace ksa {

// Up to so many slots a thread of a GPU holds a chunk's rows.
inline constexpr int kFewPoolSlots = 8;

// Blocks that share the chunks, whatever the GPU, for their partial sums make the bias's gradient: fewer where each
// has many slots to sum.
[[nodiscard]] inline int64_t ChunkPoolBlocks(const SummaryLayout& layout) {
  constexpr int64_t kOfFewSlots = 99;   // four times as many hold rows in registers at once on 132 processors
  constexpr int64_t kMostSlots = 2112;  // of all blocks
  const int64_t most =
      layout.chunk_size <= kFewPoolSlots ? kOfFewSlots : std::max<int64_t>(16, kMostSlots / layout.chunk_size);
  return std::min(most, int64_t{1} * layout.sequences * layout.chunks());
}

// Sums of the bias's gradient, one a block: [ChunkPoolBlocks, k·c] fp32.
[[nodiscard]] inline Tensor ChunkPoolBackwardPartials(const ChunkPoolBackwardArgs& args) {
  return Tensor::Empty({ChunkPoolBlocks(args.layout), args.bias.size()},
                       DType::kF32,
                       RequireScratch("ChunkPoolBackward", args.allocator));
}

}  // namespace ksa
