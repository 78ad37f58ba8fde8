// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

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

}  // namespace ksa::cuda
