// Internal to the family: products of a few rows with a weight on a GPU.
#pragma once

#include "kernels/core/device.h"
#include "kernels/gemm/gemm.h"

namespace ksa::cuda {

// With more rows the arithmetic of ordinary cores begins to count.
inline constexpr int64_t kMostFewRows = 4;

// Whether FewRows computes this product: c = a b^T in bf16, of aligned rows. Addresses that are not change the kernel,
// as they change cuBLASLt's.
[[nodiscard]] bool TakesFewRows(const GemmArgs& args, const GemmSize& size);

// Sums in fp32, rounded once, in an order that depends on k alone.
void FewRows(const GemmArgs& args, const GemmSize& size, const Stream& stream);

}  // namespace ksa::cuda
