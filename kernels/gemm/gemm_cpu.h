// Matrix products on the CPU, through OpenBLAS.
#pragma once

#include "kernels/gemm/gemm.h"

namespace ksa::cpu {

// T: type of a and b. C: type of c.
template <typename T, typename C>
void Gemm(const GemmArgs& args, const GemmSize& size, const Stream& stream);

}  // namespace ksa::cpu
