// Scratch of the convolution's backward on a GPU, and on a dry stream.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/short_conv/short_conv.h"

namespace ksa {

// Up to so many taps a thread of a GPU keeps in registers.
inline constexpr int64_t kFewConvTaps = 4;

// Blocks that share the rows for the gradient of the taps, whatever the GPU, for their partial sums make the result.
[[nodiscard]] inline int64_t ShortConvRowBlocks(const ShortConvBackwardArgs& args) {
  if (args.weight.shape[2] <= kFewConvTaps) {  // as many as 132 processors hold at once with 2048 channels
    return std::min<int64_t>(198, (args.x.rows() + 15) / 16);
  }
  return std::min<int64_t>(64, (args.layout.text_rows() + 63) / 64);
}

// Sums of the taps' gradients, one a block: [ShortConvRowBlocks, c·K] fp32.
[[nodiscard]] inline Tensor ShortConvBackwardPartials(const ShortConvBackwardArgs& args) {
  return Tensor::Empty(
      {ShortConvRowBlocks(args), args.weight.size()}, DType::kF32, RequireScratch("ShortConvBackward", args.allocator));
}

// Gradients of the sums u, [n, c] fp32; empty where they are dy itself.
[[nodiscard]] inline Tensor ShortConvSumGradients(const ShortConvBackwardArgs& args) {
  if (args.form == ConvForm::kResidual) {
    return {};
  }
  return Tensor::Empty(args.x.shape, DType::kF32, RequireScratch("ShortConvBackward", args.allocator));
}

}  // namespace ksa
