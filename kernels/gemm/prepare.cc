#include "kernels/gemm/prepare.h"

#include <vector>

#include "kernels/core/threads.h"
#include "kernels/gemm/blas.h"

namespace ksa {

void PrepareHost(const Stream& stream) {
  const int threads = stream.threads;
  if (threads > 1) {
    CheckThreadsStart(threads - 1);
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
    }
  }
  if (!stream.device.IsCpu()) {
    return;
  }
  constexpr int kSize = 128;  // large enough for OpenBLAS to share among threads
  const std::vector<float> zeros(kSize * kSize);
  std::vector<float> product(kSize * kSize);
  cpu::Multiply<float>({.m = kSize,
                        .n = kSize,
                        .k = kSize,
                        .a = zeros.data(),
                        .lda = kSize,
                        .b = zeros.data(),
                        .ldb = kSize,
                        .c = product.data(),
                        .ldc = kSize},
                       threads);
}

}  // namespace ksa
