// Scratch of the backward of norms by heads on a GPU, and on a dry stream.
#pragma once

#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/rope/qk_norm_rope.h"

namespace ksa {

// The most blocks of a backward pass with norms: as many as 132 processors hold at once; other GPUs run the same, for
// the blocks' partial sums make the result.
inline constexpr int64_t kQkNormBackwardBlocks = 396;

// Sums of the weights' gradients, one a block: [kQkNormBackwardBlocks, e] fp32; empty where nobody asks for them, and
// without a norm.
[[nodiscard]] inline Tensor QkNormRopeBackwardPartials(const QkNormRopeBackwardArgs& args) {
  const bool wanted = !args.dweight.empty() || (!args.weight_summary.empty() && !args.dweight_summary.empty());
  if (args.weight.empty() || !wanted) {
    return {};
  }
  return Tensor::Empty(
      {kQkNormBackwardBlocks, args.dy.shape[2]}, DType::kF32, RequireScratch("QkNormRopeBackward", args.allocator));
}

}  // namespace ksa
