// Products of a few rows with a weight, as in decoding: the weight is read once, and how fast that goes is all there is
// to it. A warp takes one row of the weight, with so many loads under way at once that memory is busy; the rows of `a`
// come from the caches.
#include <cstdint>
#include <span>

#include "kernels/core/cuda.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/gemm/gemm_backends.h"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kWide = device::kVectorElements<BFloat16>;
constexpr int kUnroll = 8;
constexpr int kStep = 32 * kWide * kUnroll;  // elements of a row that a warp loads at once
constexpr int kLine = 64;                    // elements of 128 bytes
constexpr int kMostTogether = 8;             // products of a launch

// Asks for a row of the weight. This reads nothing, so it may come before the wait for the kernel before: what that
// kernel writes is in the same cache.
__device__ __forceinline__ void Prefetch(const BFloat16* row, int k) {
  for (int at = static_cast<int>(threadIdx.x % 32) * kLine; at < k; at += 32 * kLine) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(row + at));
  }
}

// Products that do not depend on each other, of as many rows and an inner extent alike.
struct Products {
  const BFloat16* a[kMostTogether];
  const BFloat16* weight[kMostTogether];
  BFloat16* y[kMostTogether];
  int n[kMostTogether];
  int first_block[kMostTogether];
  int count = 0;
  int blocks = 0;
};

// y[m][n] = a[m] · weight[n] of M rows.
template <int M>
__global__ void __launch_bounds__(kThreads) FewRowsKernel(const __grid_constant__ Products products, int k) {
  int of = 0;
#pragma unroll
  for (int i = 1; i < kMostTogether; ++i) {
    of = i < products.count && static_cast<int>(blockIdx.x) >= products.first_block[i] ? i : of;
  }
  const int n = products.n[of];
  const int column =
      (static_cast<int>(blockIdx.x) - products.first_block[of]) * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const BFloat16* a = products.a[of];
  const BFloat16* row = products.weight[of] + int64_t{column} * k;
  if (column < n) {
    Prefetch(row, k);
  }
  device::WaitForKernelBefore();
  device::LetNextKernelBegin();
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
      result.Store(products.y[of] + int64_t{m} * n + column);
    }
  }
}

template <int M>
void Run(const Products& products, int64_t k, const Stream& stream) {
  Launch("Gemm",
         stream,
         {.grid = dim3(static_cast<unsigned>(products.blocks)), .block = dim3(kThreads), .early = true},
         FewRowsKernel<M>,
         products,
         static_cast<int>(k));
}

void Run(const Products& products, int64_t m, int64_t k, const Stream& stream) {
  switch (m) {
    case 1:
      return Run<1>(products, k, stream);
    case 2:
      return Run<2>(products, k, stream);
    case 3:
      return Run<3>(products, k, stream);
    default:
      return Run<4>(products, k, stream);
  }
}

}  // namespace

bool CanTakeFewRows(std::span<const GemmArgs> args, std::span<const GemmSize> sizes) {
  for (size_t i = 0; i < args.size(); ++i) {
    const GemmArgs& one = args[i];
    const GemmSize& size = sizes[i];
    const bool few = size.m > 0 && size.m <= kMostFewRows && size.n > 0 && size.k > 0 && size.k % kWide == 0;
    const bool plain = one.transpose_b && (!one.transpose_a || size.m == 1) && one.alpha == 1.0 && one.beta == 0.0;
    const bool in_bf16 = one.a.dtype == DType::kBF16 && one.c.dtype == DType::kBF16;
    if (!few || !plain || !in_bf16 || !device::IsAligned16(one.a.data) || !device::IsAligned16(one.b.data)) {
      return false;
    }
  }
  return true;
}

void FewRows(std::span<const GemmArgs> args, std::span<const GemmSize> sizes, const Stream& stream) {
  Products products{};
  for (size_t i = 0; i < args.size(); ++i) {
    const int at = products.count++;
    products.a[at] = args[i].a.As<BFloat16>();
    products.weight[at] = args[i].b.As<BFloat16>();
    products.y[at] = args[i].c.As<BFloat16>();
    products.n[at] = static_cast<int>(sizes[i].n);
    products.first_block[at] = products.blocks;
    products.blocks += static_cast<int>((sizes[i].n + kWarps - 1) / kWarps);
    const bool last = i + 1 == args.size();
    if (last || products.count == kMostTogether || sizes[i + 1].m != sizes[i].m || sizes[i + 1].k != sizes[i].k) {
      Run(products, sizes[i].m, sizes[i].k, stream);
      products = {};
    }
  }
}

}  // namespace ksa::cuda
