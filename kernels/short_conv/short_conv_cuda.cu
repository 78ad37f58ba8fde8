// The convolution on a GPU. A thread has the channels of one vector, and of several rows that follow each other, so
// that their loads are on their way together; the rows before them come from the cache that the rows themselves fill.
#include <cstdint>
#include <initializer_list>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/short_conv/conv_rows.h"
#include "kernels/short_conv/short_conv_backends.h"
#include "kernels/short_conv/short_conv_scratch.h"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 128;  // vectors of channels of a block
constexpr int kStrip = 8;      // rows of a block

// What a row reads: `reach` rows before it. Of those, the nearest `here` are the rows right before it; the one j > here
// before is row `halo_end` - j of the halo.
struct RowReach {
  int32_t reach;  // -1: not a row of text, or padding
  int32_t here;
  int64_t halo_end;
};

__device__ inline RowReach ReachAt(const ConvRows& rows, int64_t row, int64_t n) {
  if (row >= n) {
    return {-1, 0, 0};
  }
  const SummaryLayout::Place at = rows.layout.Locate(row);
  if (!at.is_text || rows.layout.IsPadding(at.sequence, at.index)) {
    return {-1, 0, 0};
  }
  const int32_t run = rows.RunOf(at.index);
  const int32_t here = at.index - rows.RowsOf(run).begin;
  return {rows.ReachOf(at.sequence, at.index), here, rows.HaloRow(at.sequence, run, 0) + here};
}

// Of both passes.
template <typename T>
struct Problem {
  ConvRows rows;
  const T* x;
  const T* halo;
  const T* weight;  // [c, taps]
  int64_t n;
  int64_t c;
  int taps;

  // The row `distance` before `row`.
  [[nodiscard]] const __device__ __forceinline__ T* Before(int64_t row, const RowReach& of, int distance) const {
    return distance <= of.here ? x + (row - distance) * c : halo + (of.halo_end - distance) * c;
  }

  // The taps that weigh the row `distance` before, of N channels.
  template <int N>
  __device__ __forceinline__ void LoadTaps(int64_t channel, int distance, float (&to)[N]) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      to[e] = static_cast<float>(weight[(channel + e) * taps + taps - 1 - distance]);
    }
  }
};

template <typename T, int N>
using Strip = Vector<T, N>[kStrip];

// The strip's own rows, as the start of its sums.
template <typename T, int N>
__device__ __forceinline__ void BeginSums(const T* own, int64_t c, int64_t rows, float (&sums)[kStrip][N]) {
  Strip<T, N> in;
#pragma unroll
  for (int s = 0; s < kStrip; ++s) {
    if (s < rows) {
      in[s].Load(own + s * c);
    }
  }
#pragma unroll
  for (int s = 0; s < kStrip; ++s) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      sums[s][e] = s < rows ? in[s][e] : 0.0F;
    }
  }
}

template <typename T, int N>
__device__ __forceinline__ void StoreSums(const float (&sums)[kStrip][N], int64_t c, int64_t rows, T* to) {
#pragma unroll
  for (int s = 0; s < kStrip; ++s) {
    if (s < rows) {
      Vector<T, N> out;
      out.Set(sums[s]);
      out.Store(to + s * c);
    }
  }
}

// sums += taps · rows, of those rows of the strip that have one.
template <typename T, int N>
__device__ __forceinline__ void AddTap(const float (&taps)[N],
                                       const Strip<T, N>& rows,
                                       const bool (&has)[kStrip],
                                       float (&sums)[kStrip][N]) {
#pragma unroll
  for (int s = 0; s < kStrip; ++s) {
    if (has[s]) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        sums[s][e] = fmaf(taps[e], rows[s][e], sums[s][e]);
      }
    }
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) ForwardKernel(const Problem<T> p, T* y) {
  device::WaitForKernelBefore();
  __shared__ RowReach reach[kStrip];
  const int64_t first = int64_t{blockIdx.x} * kStrip;
  if (threadIdx.x < kStrip) {
    reach[threadIdx.x] = ReachAt(p.rows, first + threadIdx.x, p.n);
  }
  __syncthreads();
  const int64_t channel = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (channel >= p.c) {
    return;
  }
  float sums[kStrip][N];
  BeginSums<T, N>(p.x + first * p.c + channel, p.c, p.n - first, sums);
  for (int distance = 0; distance < p.taps; ++distance) {
    Strip<T, N> rows;
    bool has[kStrip];
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
      has[s] = distance <= reach[s].reach;
      if (has[s]) {
        rows[s].Load(p.Before(first + s, reach[s], distance) + channel);
      }
    }
    float taps[N];
    p.LoadTaps(channel, distance, taps);
    AddTap<T, N>(taps, rows, has, sums);
  }
  StoreSums<T, N>(sums, p.c, p.n - first, y + first * p.c + channel);
}

// dx of a row: dy of itself and, times its taps, of the rows behind it that are here and read it.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) InputGradientKernel(const Problem<T> p, const T* dy, T* dx) {
  device::WaitForKernelBefore();
  __shared__ int32_t reach[kStrip + kMostConvTaps];  // of the rows that are here
  const int64_t first = int64_t{blockIdx.x} * kStrip;
  if (threadIdx.x < kStrip + kMostConvTaps) {
    const RowReach of = ReachAt(p.rows, first + threadIdx.x, p.n);
    reach[threadIdx.x] = min(of.reach, of.here);
  }
  __syncthreads();
  const int64_t channel = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (channel >= p.c) {
    return;
  }
  float sums[kStrip][N];
  BeginSums<T, N>(dy + first * p.c + channel, p.c, p.n - first, sums);
  for (int distance = 0; distance < p.taps; ++distance) {
    Strip<T, N> rows;
    bool has[kStrip];
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
      has[s] = distance <= reach[s + distance];
      if (has[s]) {
        rows[s].Load(dy + (first + s + distance) * p.c + channel);
      }
    }
    float taps[N];
    p.LoadTaps(channel, distance, taps);
    AddTap<T, N>(taps, rows, has, sums);
  }
  StoreSums<T, N>(sums, p.c, p.n - first, dx + first * p.c + channel);
}

// A block a row of the halo: what rows that are here leave for it. There are few of them.
template <typename T>
__global__ void __launch_bounds__(kThreads) HaloGradientKernel(const Problem<T> p, const T* dy, T* dhalo) {
  device::WaitForKernelBefore();
  const ConvRows& rows = p.rows;
  const auto place = static_cast<int32_t>(blockIdx.x) / rows.reach;  // a run of a sequence
  const int32_t distance = rows.reach - static_cast<int32_t>(blockIdx.x) % rows.reach;
  const int32_t sequence = place / rows.runs();
  const int32_t run = place % rows.runs();
  const int32_t readers = rows.ReadersOfHalo(sequence, run, distance);
  const T* first = dy + rows.layout.TextRow(sequence, rows.RowsOf(run).begin) * p.c;
  for (int64_t channel = threadIdx.x; channel < p.c; channel += kThreads) {
    float sum = 0.0F;
    for (int32_t r = 0; r < readers; ++r) {
      float tap[1];
      p.LoadTaps(channel, distance + r, tap);
      sum = fmaf(tap[0], static_cast<float>(first[r * p.c + channel]), sum);
    }
    dhalo[blockIdx.x * p.c + channel] = T(sum);
  }
}

constexpr int kTapGroup = 4;  // distances of a block
constexpr int kSlices = 8;    // of a block's rows, a warp each

// Sums of dy · x of some rows, by distance and channel, in ascending order of the rows; then of the slices.
template <typename T, int N>
__global__ void __launch_bounds__(32 * kSlices) WeightGradientKernel(const Problem<T> p, const T* dy, float* partials) {
  device::WaitForKernelBefore();
  __shared__ float shared[kSlices][32 * N];
  const int lane = static_cast<int>(threadIdx.x);
  const int slice = static_cast<int>(threadIdx.y);
  const int64_t channel = (int64_t{blockIdx.y} * 32 + lane) * N;
  const int first_distance = static_cast<int>(blockIdx.z) * kTapGroup;
  const int64_t text = p.rows.layout.text_rows();
  const int64_t slices = int64_t{gridDim.x} * kSlices;
  const int64_t each = (text + slices - 1) / slices;
  const int64_t begin = (int64_t{blockIdx.x} * kSlices + slice) * each;
  const int64_t end = min(text, begin + each);
  float sums[kTapGroup][N] = {};
  for (int64_t base = begin; base < end; base += 32) {
    const RowReach own = ReachAt(p.rows, base + lane, end);  // divisions: of 32 rows at once
    const int rows = static_cast<int>(min(end - base, int64_t{32}));
    for (int i = 0; i < rows; ++i) {
      const RowReach reach = {__shfl_sync(0xffffffffU, own.reach, i),
                              __shfl_sync(0xffffffffU, own.here, i),
                              __shfl_sync(0xffffffffU, own.halo_end, i)};
      if (channel >= p.c || reach.reach < first_distance) {
        continue;
      }
      Vector<T, N> gradient;
      Vector<T, N> x[kTapGroup];
      gradient.Load(dy + (base + i) * p.c + channel);
#pragma unroll
      for (int t = 0; t < kTapGroup; ++t) {
        if (first_distance + t <= reach.reach) {
          x[t].Load(p.Before(base + i, reach, first_distance + t) + channel);
        }
      }
#pragma unroll
      for (int t = 0; t < kTapGroup; ++t) {
        if (first_distance + t <= reach.reach) {
#pragma unroll
          for (int e = 0; e < N; ++e) {
            sums[t][e] = fmaf(gradient[e], x[t][e], sums[t][e]);
          }
        }
      }
    }
  }
  const int thread = slice * 32 + lane;
#pragma unroll
  for (int t = 0; t < kTapGroup; ++t) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      shared[slice][lane * N + e] = sums[t][e];
    }
    __syncthreads();
    const int64_t of_thread = int64_t{blockIdx.y} * 32 * N + thread;
    if (thread < 32 * N && of_thread < p.c && first_distance + t < p.taps) {
      float sum = shared[0][thread];
      for (int s = 1; s < kSlices; ++s) {
        sum += shared[s][thread];
      }
      partials[(int64_t{blockIdx.x} * p.c + of_thread) * p.taps + p.taps - 1 - (first_distance + t)] = sum;
    }
    __syncthreads();
  }
}

template <typename T, typename Args>
Problem<T> MakeProblem(const Args& args) {
  const int64_t taps = args.weight.shape[2];
  return {.rows = {args.layout, static_cast<int32_t>(taps) - 1},
          .x = args.x.template As<T>(),
          .halo = args.halo.template As<T>(),
          .weight = args.weight.template As<T>(),
          .n = args.x.rows(),
          .c = args.x.cols(),
          .taps = static_cast<int>(taps)};
}

// run(std::integral_constant<int, N>()): channels of a thread, by what rows may be read with.
template <typename T, typename Run>
void WithVectors(int64_t channels, std::initializer_list<const void*> tensors, const Run& run) {
  bool wide = channels % device::kVectorElements<T> == 0;
  for (const void* data : tensors) {
    wide = wide && device::IsAligned16(data);
  }
  if (wide) {
    run(std::integral_constant<int, device::kVectorElements<T>>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

[[nodiscard]] unsigned Blocks(int64_t items, int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

[[nodiscard]] LaunchShape Strips(int64_t n, int64_t channels, int of_thread) {
  return {.grid = dim3(Blocks(n, kStrip), Blocks(channels, int64_t{kThreads} * of_thread)),
          .block = dim3(kThreads),
          .early = true};
}

template <typename T>
void Backward(const ShortConvBackwardArgs& args, const Stream& stream) {
  const char* op = "ShortConvBackward";
  const Problem<T> p = MakeProblem<T>(args);
  const T* dy = args.dy.As<T>();
  const Tensor partials = ShortConvBackwardPartials(args);
  const int64_t blocks = partials.rows();
  WithVectors<T>(p.c, {p.x, p.halo, dy, args.dx.data}, [&](auto vector) {
    constexpr int N = vector();
    Launch(op, stream, Strips(p.n, p.c, N), InputGradientKernel<T, N>, p, dy, args.dx.As<T>());
    const LaunchShape shape = {
        .grid = dim3(static_cast<unsigned>(blocks), Blocks(p.c, 32 * N), Blocks(p.taps, kTapGroup)),
        .block = dim3(32, kSlices),
        .early = true};
    Launch(op, stream, shape, WeightGradientKernel<T, N>, p, dy, partials.As<float>());
  });
  const LaunchShape halo = {
      .grid = dim3(static_cast<unsigned>(p.rows.halo_rows())), .block = dim3(kThreads), .early = true};
  Launch(op, stream, halo, HaloGradientKernel<T>, p, dy, args.dhalo.As<T>());
  const device::ColumnSum sum{partials.As<float>(), blocks, args.dweight.As<float>(), args.accumulate};
  device::ColumnSums(op, sum, {}, args.weight.size(), stream);
}

}  // namespace

void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const Problem<T> p = MakeProblem<T>(args);
    WithVectors<T>(p.c, {p.x, p.halo, args.y.data}, [&](auto vector) {
      constexpr int N = vector();
      Launch("ShortConvForward", stream, Strips(p.n, p.c, N), ForwardKernel<T, N>, p, args.y.As<T>());
    });
  });
}

void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) { Backward<decltype(element)>(args, stream); });
}

}  // namespace ksa::cuda
