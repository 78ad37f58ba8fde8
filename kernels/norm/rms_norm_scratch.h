// Scratch of RMSNorm's backward on a GPU, and on a dry stream.
#pragma once

#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/norm/rms_norm.h"

namespace ksa {

// The most blocks of a backward pass over rows of `row_bytes`: as many as 132 processors hold at once, with rows of up
// to 4 KiB in few registers or longer ones in many; other GPUs run the same blocks, for the blocks' partial sums make
// the result.
[[nodiscard]] constexpr int64_t RmsNormBackwardBlocks(int64_t row_bytes) {
  return row_bytes <= 4096 ? 396 : 264;
}

// Sums of the weights' gradients, one a block: [RmsNormBackwardBlocks, d] fp32; empty where nobody asks for them.
[[nodiscard]] inline Tensor RmsNormBackwardPartials(const RmsNormBackwardArgs& args) {
  if (args.dweight.empty() && (args.weight_summary.empty() || args.dweight_summary.empty())) {
    return {};
  }
  const int64_t d = args.x.cols();
  return Tensor::Empty({RmsNormBackwardBlocks(d * SizeOf(args.x.dtype)), d},
                       DType::kF32,
                       RequireScratch("RmsNormBackward", args.allocator));
}

}  // namespace ksa
