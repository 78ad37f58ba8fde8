// Products of a few rows with a weight, as in decoding: the weight is read once, and how fast that goes is all there is
// to it. A warp takes one row of the weight, with so many loads under way at once that memory is busy; the rows of `a`
// come from the caches.
#include <cstdint>

#include "kernels/core/cuda.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/gemm/few_rows.h"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kWide = device::kVectorElements<BFloat16>;
constexpr int kUnroll = 8;
constexpr int kStep = 32 * kWide * kUnroll;  // elements of a row that a warp loads at once
constexpr int kLine = 64;                    // elements of 128 bytes

// Asks for the first elements of a row of the weight. This reads nothing, so it may come before the wait for the kernel
// before: what that kernel writes is in the same cache.
__device__ __forceinline__ void Prefetch(const BFloat16* row, int k) {
  const int at = static_cast<int>(threadIdx.x % 32) * kLine;
  if (at < k) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(row + at));
  }
}

// y[m][n] = a[m] · weight[n] of M rows.
template <int M>
__global__ void __launch_bounds__(kThreads)
    FewRowsKernel(const BFloat16* a, const BFloat16* weight, BFloat16* y, int n, int k) {
  const int column = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const BFloat16* row = weight + int64_t{column} * k;
  if (column < n) {
    Prefetch(row, k);
  }
  device::WaitForKernelBefore();
  if (column >= n) {
    return;
  }
  float sum[M] = {};
  for (int base = lane * kWide; base < k; base += kStep) {
    Vector<BFloat16, kWide> w[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = base + u * 32 * kWide;
      w[u].LoadStreaming(row + (at < k ? at : base));
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int at = base + u * 32 * kWide;
      if (at < k) {
#pragma unroll
        for (int m = 0; m < M; ++m) {
          Vector<BFloat16, kWide> x;
          x.Load(a + int64_t{m} * k + at);
#pragma unroll
          for (int i = 0; i < kWide; ++i) {
            sum[m] = fmaf(x[i], w[u][i], sum[m]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    const float total[1] = {device::WarpSum(sum[m])};
    if (lane == 0) {
      Vector<BFloat16, 1> result;
      result.Set(total);
      result.Store(y + int64_t{m} * n + column);
    }
  }
}

template <int M>
void Run(const GemmArgs& args, const GemmSize& size, const Stream& stream) {
  const auto blocks = static_cast<unsigned>((size.n + kWarps - 1) / kWarps);
  Launch("Gemm",
         stream,
         {.grid = dim3(blocks), .block = dim3(kThreads), .early = true},
         FewRowsKernel<M>,
         args.a.As<BFloat16>(),
         args.b.As<BFloat16>(),
         args.c.As<BFloat16>(),
         static_cast<int>(size.n),
         static_cast<int>(size.k));
}

}  // namespace

bool TakesFewRows(const GemmArgs& args, const GemmSize& size) {
  return size.m <= kMostFewRows && size.k % kWide == 0 && args.transpose_b && (!args.transpose_a || size.m == 1) &&
         args.a.dtype == DType::kBF16 && args.c.dtype == DType::kBF16 && args.alpha == 1.0 && args.beta == 0.0 &&
         device::IsAligned16(args.a.data) && device::IsAligned16(args.b.data);
}

void FewRows(const GemmArgs& args, const GemmSize& size, const Stream& stream) {
  switch (size.m) {
    case 1:
      return Run<1>(args, size, stream);
    case 2:
      return Run<2>(args, size, stream);
    case 3:
      return Run<3>(args, size, stream);
    default:
      return Run<4>(args, size, stream);
  }
}

}  // namespace ksa::cuda
