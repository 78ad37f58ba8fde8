// Scratch of the convolution's backward on a GPU, and on a dry stream.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/short_conv/short_conv.h"

namespace ksa {

// Blocks that share the rows of text for the gradient of the taps, whatever the GPU, for their partial sums make the
// result.
[[nodiscard]] inline int64_t ShortConvRowBlocks(const SummaryLayout& layout) {
  constexpr int64_t kMost = 64;
  constexpr int64_t kFewestRows = 64;  // of a block, where there are more of them
  return std::min(kMost, (layout.text_rows() + kFewestRows - 1) / kFewestRows);
}

// Sums of the taps' gradients, one a block: [ShortConvRowBlocks, c·K] fp32.
[[nodiscard]] inline Tensor ShortConvBackwardPartials(const ShortConvBackwardArgs& args) {
  return Tensor::Empty({ShortConvRowBlocks(args.layout), args.weight.size()},
                       DType::kF32,
                       RequireScratch("ShortConvBackward", args.allocator));
}

// Gradients of the sums u, [n, c] fp32; empty where they are dy itself.
[[nodiscard]] inline Tensor ShortConvSumGradients(const ShortConvBackwardArgs& args) {
  if (args.form == ConvForm::kResidual) {
    return {};
  }
  return Tensor::Empty(args.x.shape, DType::kF32, RequireScratch("ShortConvBackward", args.allocator));
}

}  // namespace ksa
