// Matrix products on the CPU, through OpenBLAS.
#pragma once

#include "kernels/gemm/gemm.h"

namespace ksa::cpu {

// m, n, k of a product, taken from its checked arguments.
struct GemmSize {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

// T: type of a and b. C: type of c.
template <typename T, typename C>
void Gemm(const GemmArgs& args, const GemmSize& size, const Stream& stream);

}  // namespace ksa::cpu
