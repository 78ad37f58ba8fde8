// Scratch of the sums over rows in what stands around the delta rule, on a GPU and on a dry stream.
#pragma once

#include <cstdint>

#include "kernels/core/checks.h"
#include "kernels/core/tensor.h"
#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/gated_norm.h"

namespace ksa {

// Blocks that each leave a partial sum, on any GPU: they make the result.
inline constexpr int64_t kDeltaSumBlocks = 264;

// Of A_log, then of dt_bias: [2·blocks, heads] fp32.
[[nodiscard]] inline Tensor DeltaGatesPartials(const DeltaGatesBackwardArgs& args) {
  return Tensor::Empty(
      {2 * kDeltaSumBlocks, args.a.cols()}, DType::kF32, RequireScratch("DeltaGatesBackward", args.allocator));
}

// [blocks, e] fp32; empty where nobody asks for the weight's gradient.
[[nodiscard]] inline Tensor GatedNormPartials(const GatedNormBackwardArgs& args) {
  if (args.dweight.empty()) {
    return {};
  }
  return Tensor::Empty(
      {kDeltaSumBlocks, args.x.shape[2]}, DType::kF32, RequireScratch("GatedNormBackward", args.allocator));
}

}  // namespace ksa
