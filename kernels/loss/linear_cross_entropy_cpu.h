// The output matrix and the cross-entropy on the CPU. Arguments are checked already, targets included.
#pragma once

#include "kernels/loss/linear_cross_entropy.h"

namespace ksa::cpu {

// Logits are held for so many bytes' worth of rows at a time (at least one row).
inline constexpr int64_t kLogitBytes = int64_t{8} << 20;

template <typename T>
void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa::cpu
