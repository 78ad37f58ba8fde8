// The convolution on a GPU. Few taps: short_conv_device.cuh. Otherwise a thread has the channels of one vector, and of
// several rows that follow each other, so that their loads are on their way together; the rows before them come from
// the cache that the rows themselves fill.
#include <cstdint>
#include <initializer_list>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/short_conv/conv_rows.h"
#include "kernels/short_conv/short_conv_backends.h"
#include "kernels/short_conv/short_conv_device.cuh"
#include "kernels/short_conv/short_conv_scratch.h"

namespace ksa::cuda {
namespace {

using conv::Problem;
using conv::ReachAt;
using conv::RowReach;
using conv::Sigmoid;
using device::Vector;

constexpr int kThreads = 128;  // vectors of channels of a block
constexpr int kStrip = 8;      // rows of a block

template <typename T, int N>
using Strip = Vector<T, N>[kStrip];

// The strip's own rows, as the start of its sums; 0 for rows of text whose sums take the place of the rows.
template <typename T, int N, typename StartsAtZero>
__device__ __forceinline__ void BeginSums(
    const T* own, int64_t c, int64_t rows, const StartsAtZero& starts_at_zero, float (&sums)[kStrip][N]) {
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
      sums[s][e] = s < rows && !starts_at_zero(s) ? in[s][e] : 0.0F;
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

// sums += u of a strip's rows.
template <typename T, int N>
__device__ __forceinline__ void AddTaps(
    const Problem<T>& p, int64_t first, int64_t channel, const RowReach (&reach)[kStrip], float (&sums)[kStrip][N]) {
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
}

template <typename T, int N, ConvForm kForm>
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
  const auto replaced = [&](int s) { return kForm == ConvForm::kSilu && reach[s].reach >= 0; };
  float sums[kStrip][N];
  BeginSums<T, N>(p.x + first * p.c + channel, p.c, p.n - first, replaced, sums);
  AddTaps<T, N>(p, first, channel, reach, sums);
#pragma unroll
  for (int s = 0; s < kStrip; ++s) {
    if (replaced(s)) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        sums[s][e] *= Sigmoid(sums[s][e]);
      }
    }
  }
  StoreSums<T, N>(sums, p.c, p.n - first, y + first * p.c + channel);
}

// du of y = SiLU(u); of rows that pass unchanged dy.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) SumGradientKernel(const Problem<T> p, const T* dy, float* du) {
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
  const int64_t at = first * p.c + channel;
  float sums[kStrip][N] = {};
  AddTaps<T, N>(p, first, channel, reach, sums);
#pragma unroll
  for (int s = 0; s < kStrip; ++s) {
    if (first + s < p.n) {
      Vector<T, N> gradient;
      gradient.Load(dy + at + s * p.c);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        const float sigmoid = Sigmoid(sums[s][e]);
        const float slope = sigmoid * (1.0F + sums[s][e] * (1.0F - sigmoid));
        sums[s][e] = reach[s].reach >= 0 ? gradient[e] * slope : gradient[e];
      }
    }
  }
  StoreSums<float, N>(sums, p.c, p.n - first, du + at);
}

// dx of a row: du of the rows behind it that are here and read it, and of itself, times their taps; beside dy of itself
// in the residual form. G: type of du, which is dy in the residual form.
template <typename T, typename G, int N, ConvForm kForm>
__global__ void __launch_bounds__(kThreads) InputGradientKernel(const Problem<T> p, const G* du, T* dx) {
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
  const auto replaced = [&](int s) { return kForm == ConvForm::kSilu && reach[s] >= 0; };
  float sums[kStrip][N];
  BeginSums<G, N>(du + first * p.c + channel, p.c, p.n - first, replaced, sums);
  for (int distance = 0; distance < p.taps; ++distance) {
    Strip<G, N> rows;
    bool has[kStrip];
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
      has[s] = distance <= reach[s + distance];
      if (has[s]) {
        rows[s].Load(du + (first + s + distance) * p.c + channel);
      }
    }
    float taps[N];
    p.LoadTaps(channel, distance, taps);
    AddTap<G, N>(taps, rows, has, sums);
  }
  StoreSums<T, N>(sums, p.c, p.n - first, dx + first * p.c + channel);
}

// A block a row of the halo: what rows that are here leave for it. There are few of them.
template <typename T, typename G>
__global__ void __launch_bounds__(kThreads) HaloGradientKernel(const Problem<T> p, const G* du, T* dhalo) {
  device::WaitForKernelBefore();
  const ConvRows& rows = p.rows;
  const auto place = static_cast<int32_t>(blockIdx.x) / rows.reach;  // a run of a sequence
  const int32_t distance = rows.reach - static_cast<int32_t>(blockIdx.x) % rows.reach;
  const int32_t sequence = place / rows.runs();
  const int32_t run = place % rows.runs();
  const int32_t readers = rows.ReadersOfHalo(sequence, run, distance);
  const G* first = du + rows.layout.TextRow(sequence, rows.RowsOf(run).begin) * p.c;
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

// Sums of du · x of some rows, by distance and channel, in ascending order of the rows; then of the slices.
template <typename T, typename G, int N>
__global__ void __launch_bounds__(32 * kSlices) WeightGradientKernel(const Problem<T> p, const G* du, float* partials) {
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
      Vector<G, N> gradient;
      Vector<T, N> x[kTapGroup];
      gradient.Load(du + (base + i) * p.c + channel);
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

[[nodiscard]] LaunchShape FewTapsShape(int64_t blocks, int64_t channels, int of_thread) {
  return {.grid = dim3(static_cast<unsigned>(blocks), Blocks(channels, int64_t{conv::kFewThreads} * of_thread)),
          .block = dim3(conv::kFewThreads),
          .early = true};
}

// What `store` makes of the sums of all rows.
template <typename T, int N, typename Store>
void LaunchFewTaps(const char* op, const Problem<T>& p, const Store& store, const Stream& stream) {
  constexpr int64_t kRowsEach = conv::kTable;
  Launch(op,
         stream,
         FewTapsShape((p.n + kRowsEach - 1) / kRowsEach, p.c, N),
         conv::FewTapsKernel<T, N, Store>,
         p,
         store,
         kRowsEach);
}

// From du on, [n, c].
template <typename T, typename G, int N, ConvForm kForm>
void LaunchBackward(const ShortConvBackwardArgs& args, const G* du, const TensorView& partials, const Stream& stream) {
  const char* op = "ShortConvBackward";
  const Problem<T> p = MakeProblem<T>(args);
  const LaunchShape halo = {
      .grid = dim3(static_cast<unsigned>(p.rows.halo_rows())), .block = dim3(kThreads), .early = true};
  Launch(op, stream, halo, HaloGradientKernel<T, G>, p, du, args.dhalo.As<T>());
  if (p.taps <= conv::kFewTaps) {
    const int64_t blocks = partials.rows();
    Launch(op,
           stream,
           FewTapsShape(blocks, p.c, N),
           conv::FewTapsBackwardKernel<T, G, N, kForm>,
           p,
           du,
           args.dx.As<T>(),
           partials.As<float>(),
           blocks == 0 ? 0 : (p.n + blocks - 1) / blocks);
    return;
  }
  Launch(op, stream, Strips(p.n, p.c, N), InputGradientKernel<T, G, N, kForm>, p, du, args.dx.As<T>());
  const LaunchShape shape = {
      .grid = dim3(static_cast<unsigned>(partials.rows()), Blocks(p.c, 32 * N), Blocks(p.taps, kTapGroup)),
      .block = dim3(32, kSlices),
      .early = true};
  Launch(op, stream, shape, WeightGradientKernel<T, G, N>, p, du, partials.As<float>());
}

template <typename T>
void Backward(const ShortConvBackwardArgs& args, const Stream& stream) {
  const Tensor partials = ShortConvBackwardPartials(args);
  const Tensor sums = ShortConvSumGradients(args);
  const Problem<T> p = MakeProblem<T>(args);
  const T* dy = args.dy.As<T>();
  WithVectors<T>(p.c, {p.x, p.halo, dy, args.dx.data}, [&](auto vector) {
    constexpr int N = vector();
    if (args.form == ConvForm::kResidual) {
      LaunchBackward<T, T, N, ConvForm::kResidual>(args, dy, partials, stream);
    } else {
      float* du = sums.As<float>();
      if (p.taps <= conv::kFewTaps) {
        LaunchFewTaps<T, N>("ShortConvBackward", p, conv::StoreSumGradient<T, N>{dy, du}, stream);
      } else {
        Launch("ShortConvBackward", stream, Strips(p.n, p.c, N), SumGradientKernel<T, N>, p, dy, du);
      }
      LaunchBackward<T, float, N, ConvForm::kSilu>(args, du, partials, stream);
    }
  });
  const device::ColumnSum sum{partials.As<float>(), partials.view().rows(), args.dweight.As<float>(), args.accumulate};
  device::ColumnSums("ShortConvBackward", sum, {}, args.weight.size(), stream);
}

}  // namespace

void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const Problem<T> p = MakeProblem<T>(args);
    WithVectors<T>(p.c, {p.x, p.halo, args.y.data}, [&](auto vector) {
      constexpr int N = vector();
      const auto run = [&](auto form) {
        constexpr ConvForm kForm = form();
        T* y = args.y.As<T>();
        if (p.taps <= conv::kFewTaps) {
          LaunchFewTaps<T, N>("ShortConvForward", p, conv::StoreRow<T, N, kForm>{y}, stream);
        } else {
          Launch("ShortConvForward", stream, Strips(p.n, p.c, N), ForwardKernel<T, N, kForm>, p, y);
        }
      };
      if (args.form == ConvForm::kResidual) {
        run(std::integral_constant<ConvForm, ConvForm::kResidual>());
      } else {
        run(std::integral_constant<ConvForm, ConvForm::kSilu>());
      }
    });
  });
}

void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) { Backward<decltype(element)>(args, stream); });
}

}  // namespace ksa::cuda
