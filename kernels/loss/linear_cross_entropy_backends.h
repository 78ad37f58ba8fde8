// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/loss/linear_cross_entropy.h"

// The output matrix and the cross-entropy on the CPU. Targets are checked too.
namespace ksa::cpu {

// Logits are held for so many bytes' worth of rows at a time (at least one row).
inline constexpr int64_t kLogitBytes = int64_t{8} << 20;

template <typename T>
void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// The output matrix and the cross-entropy on a GPU, fp32 and bf16. A target >= v gives its row a NaN loss and NaN
// gradients.
namespace ksa::cuda {

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa::cuda
