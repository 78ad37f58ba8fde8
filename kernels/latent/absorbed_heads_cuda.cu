// Both read a head's part of the weight once for kRows rows: there are few rows, and the weight is what counts.
#include <cstdint>
#include <type_traits>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/latent/latent_heads_backends.h"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kRows = 4;
constexpr int kGroups = 8;  // of 32 threads
constexpr int kThreads = 32 * kGroups;

template <typename T>
struct Args {
  const T* x;       // [n, heads, columns]
  const T* weight;  // [heads, weight_rows, latent]
  T* y;             // [n, heads, out_columns]
  int n;
  int heads;
  int columns;
  int weight_rows;
  int latent;
  int out_columns;
};

// A row of a head, from the block's first row on.
template <typename T>
const __device__ __forceinline__ T* RowOf(const Args<T>& p, int row) {
  return p.x + (int64_t{row} * p.heads + blockIdx.y) * p.columns;
}

// Grid: [blocks of 32·N columns of a latent, heads, blocks of kRows rows]. A group of threads takes every kGroups-th
// row of the weight; their sums are added in the order of the groups.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) AbsorbKernel(const Args<T> p, int nope) {
  device::WaitForKernelBefore();
  __shared__ float partial[kGroups][kRows][32 * N];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = static_cast<int>(threadIdx.x) / 32;
  const int first_row = static_cast<int>(blockIdx.z) * kRows;
  const int first_column = static_cast<int>(blockIdx.x) * 32 * N;
  const int column = first_column + lane * N;
  const T* weight = p.weight + int64_t{blockIdx.y} * p.weight_rows * p.latent;
  float sum[kRows][N] = {};
  if (column < p.latent) {
#pragma unroll 4
    for (int a = group; a < nope; a += kGroups) {
      Vector<T, N> w;
      w.Load(weight + int64_t{a} * p.latent + column);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Vector<T, 1> x;
        x.Load(RowOf(p, min(first_row + r, p.n - 1)) + a);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          sum[r][i] = fmaf(x[0], w[i], sum[r][i]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      partial[group][r][lane * N + i] = sum[r][i];
    }
  }
  __syncthreads();
  const auto store = [&](int r, int at, float value) {
    const float values[1] = {value};
    Vector<T, 1> y;
    y.Set(values);
    y.Store(p.y + (int64_t{first_row + r} * p.heads + blockIdx.y) * p.out_columns + at);
  };
  for (int j = threadIdx.x; j < kRows * 32 * N; j += kThreads) {
    const int r = j / (32 * N);
    const int at = j % (32 * N);
    if (first_row + r < p.n && first_column + at < p.latent) {
      float total = partial[0][r][at];
#pragma unroll
      for (int g = 1; g < kGroups; ++g) {
        total += partial[g][r][at];
      }
      store(r, first_column + at, total);
    }
  }
  const int rope = p.columns - nope;
  for (int j = threadIdx.x; blockIdx.x == 0 && j < kRows * rope; j += kThreads) {
    const int r = j / rope;
    if (first_row + r < p.n) {
      Vector<T, 1> x;
      x.Load(RowOf(p, first_row + r) + nope + j % rope);
      store(r, p.latent + j % rope, x[0]);
    }
  }
}

// Grid: [blocks of kGroups columns of a value, heads, blocks of kRows rows]. A warp a column.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) ExpandKernel(const Args<T> p) {
  device::WaitForKernelBefore();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = static_cast<int>(blockIdx.x) * kGroups + static_cast<int>(threadIdx.x) / 32;
  const int first_row = static_cast<int>(blockIdx.z) * kRows;
  if (column >= p.out_columns) {
    return;
  }
  const int nope = p.weight_rows - p.out_columns;
  const T* weight = p.weight + (int64_t{blockIdx.y} * p.weight_rows + nope + column) * p.latent;
  float sum[kRows] = {};
#pragma unroll 2
  for (int j = lane * N; j < p.latent; j += 32 * N) {
    Vector<T, N> w;
    w.Load(weight + j);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      Vector<T, N> x;
      x.Load(RowOf(p, min(first_row + r, p.n - 1)) + j);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sum[r] = fmaf(x[i], w[i], sum[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float total[1] = {device::WarpSum(sum[r])};
    if (lane == 0 && first_row + r < p.n) {
      Vector<T, 1> y;
      y.Set(total);
      y.Store(p.y + (int64_t{first_row + r} * p.heads + blockIdx.y) * p.out_columns + column);
    }
  }
}

unsigned Blocks(int64_t count, int64_t of) {
  return static_cast<unsigned>((count + of - 1) / of);
}

template <typename T>
Args<T> ArgsOf(const TensorView& x, const TensorView& weight, const TensorView& y) {
  return {.x = x.As<T>(),
          .weight = weight.As<T>(),
          .y = y.As<T>(),
          .n = static_cast<int>(x.rows()),
          .heads = static_cast<int>(x.shape[1]),
          .columns = static_cast<int>(x.shape[2]),
          .weight_rows = static_cast<int>(weight.shape[1]),
          .latent = static_cast<int>(weight.shape[2]),
          .out_columns = static_cast<int>(y.shape[2])};
}

// Calls run with the widest vectors that rows of this many elements at these addresses can be read in.
template <typename T, typename Run>
void ForWidth(int64_t elements, const TensorView& x, const TensorView& weight, const Run& run) {
  constexpr int kWide = device::kVectorElements<T>;
  if (elements % kWide == 0 && device::IsAligned16(x.data) && device::IsAligned16(weight.data)) {
    run(std::integral_constant<int, kWide>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

}  // namespace

void AbsorbQueries(const AbsorbQueriesArgs& args, const Stream& stream) {
  DispatchGpu(args.q.dtype, [&](auto element) {
    using T = decltype(element);
    const Args<T> p = ArgsOf<T>(args.q, args.weight, args.y);
    const int nope = p.columns - (p.out_columns - p.latent);
    ForWidth<T>(p.latent, args.weight, args.weight, [&](auto width) {
      constexpr int N = decltype(width)::value;
      Launch("AbsorbQueries",
             stream,
             {.grid = dim3(Blocks(p.latent, 32 * N), static_cast<unsigned>(p.heads), Blocks(p.n, kRows)),
              .block = dim3(kThreads),
              .early = true},
             AbsorbKernel<T, N>,
             p,
             nope);
    });
  });
}

void ExpandValues(const ExpandValuesArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const Args<T> p = ArgsOf<T>(args.x, args.weight, args.y);
    ForWidth<T>(p.latent, args.x, args.weight, [&](auto width) {
      constexpr int N = decltype(width)::value;
      Launch("ExpandValues",
             stream,
             {.grid = dim3(Blocks(p.out_columns, kGroups), static_cast<unsigned>(p.heads), Blocks(p.n, kRows)),
              .block = dim3(kThreads),
              .early = true},
             ExpandKernel<T, N>,
             p);
    });
  });
}

}  // namespace ksa::cuda
