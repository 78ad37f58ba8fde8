// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include <span>

#include "kernels/core/device.h"
#include "kernels/gemm/gemm.h"

// Matrix products on the CPU, through OpenBLAS.
namespace ksa::cpu {

// T: type of a and b. C: type of c.
template <typename T, typename C>
void Gemm(const GemmArgs& args, const GemmSize& size, const Stream& stream);

}  // namespace ksa::cpu

// Matrix products on a GPU, through cuBLASLt. fp32 products are true fp32, without TF32; bf16 products are accumulated
// in fp32 and rounded once. An algorithm is chosen by cuBLASLt's heuristic once for a kind of product (sizes, types,
// transposes, alignments) and stream, and kept for the 512 kinds used last; asked again, it answers the same.
// Algorithms whose additions race are left out. Up to four rows in bf16 with a weight have a kernel of their own.
namespace ksa::cuda {

void Gemm(const GemmArgs& args, const GemmSize& size, const Stream& stream);

// With more rows the arithmetic of ordinary cores begins to count.
inline constexpr int64_t kMostFewRows = 4;

// Whether FewRows computes all of these products: c = a b^T in bf16, of aligned rows. Addresses that are not aligned
// change the kernel, as they change cuBLASLt's.
[[nodiscard]] bool CanTakeFewRows(std::span<const GemmArgs> args, std::span<const GemmSize> sizes);

// Products that do not depend on each other, at once. Sums in fp32, rounded once, in an order that depends on k alone.
void FewRows(std::span<const GemmArgs> args, std::span<const GemmSize> sizes, const Stream& stream);

}  // namespace ksa::cuda
