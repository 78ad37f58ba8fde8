// What the convolution's kernels share, and those for few taps: there a thread goes down rows with the taps of its
// channels in registers and a window of rows that slides, so that every row is loaded once.
#pragma once

#include <cstdint>

#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/short_conv/conv_rows.h"
#include "kernels/short_conv/short_conv.h"
#include "kernels/short_conv/short_conv_scratch.h"

namespace ksa::cuda::conv {

using device::Vector;

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

__device__ __forceinline__ float Sigmoid(float x) {
  return 1.0F / (1.0F + expf(-x));
}

inline constexpr int kFewTaps = kFewConvTaps;
inline constexpr int kFewThreads = 64;   // vectors of channels of a block
inline constexpr int kTable = 32;        // rows whose reach a block works out at a time
inline constexpr int kForwardStrip = 8;  // rows whose loads are on their way together
inline constexpr int kBackwardStrip = 4;

// Taps by distance; 0 beyond the last.
template <int N>
using TapsOf = float[kFewTaps][N];

template <typename T, int N>
__device__ __forceinline__ void LoadFewTaps(const Problem<T>& p, int64_t channel, TapsOf<N>& taps) {
#pragma unroll
  for (int j = 0; j < kFewTaps; ++j) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      taps[j][e] = 0.0F;
    }
    if (j < p.taps) {
      p.LoadTaps(channel, j, taps[j]);
    }
  }
}

// What becomes of a row's sum u, by form.
template <typename T, int N, ConvForm kForm>
struct StoreRow {
  T* y;

  __device__ __forceinline__ void operator()(int64_t at, bool is_text, const Vector<T, N>& x, float (&u)[N]) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float row = x[e];
      if constexpr (kForm == ConvForm::kResidual) {
        u[e] += row;
      } else {
        u[e] = is_text ? u[e] * Sigmoid(u[e]) : row;
      }
    }
    Vector<T, N> out;
    out.Set(u);
    out.Store(y + at);
  }
};

// du of y = SiLU(u); of rows that pass unchanged dy.
template <typename T, int N>
struct StoreSumGradient {
  const T* dy;
  float* du;

  __device__ __forceinline__ void operator()(int64_t at, bool is_text, const Vector<T, N>& /*x*/, float (&u)[N]) const {
    Vector<T, N> gradient;
    gradient.Load(dy + at);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float sigmoid = Sigmoid(u[e]);
      u[e] = is_text ? gradient[e] * (sigmoid * (1.0F + u[e] * (1.0F - sigmoid))) : gradient[e];
    }
    Vector<float, N> out;
    out.Set(u);
    out.Store(du + at);
  }
};

// u of a row: row `row` is current[s], and before it lie `before` and the rest of `current`.
template <typename T, int N, int kStrip>
__device__ __forceinline__ void SumOfRow(const Problem<T>& p,
                                         const TapsOf<N>& taps,
                                         const Vector<T, N> (&before)[kFewTaps - 1],
                                         const Vector<T, N> (&current)[kStrip],
                                         int s,
                                         const RowReach& reach,
                                         int64_t channel,
                                         float (&u)[N]) {
#pragma unroll
  for (int e = 0; e < N; ++e) {
    u[e] = 0.0F;
  }
#pragma unroll
  for (int j = 0; j < kFewTaps; ++j) {
    if (j <= reach.reach) {
      Vector<T, N> row = s >= j ? current[s - j < 0 ? 0 : s - j] : before[s - j + kFewTaps - 1];
      if (j > reach.here) {
        row.Load(p.halo + (reach.halo_end - j) * p.c + channel);
      }
#pragma unroll
      for (int e = 0; e < N; ++e) {
        u[e] = fmaf(taps[j][e], row[e], u[e]);
      }
    }
  }
}

// Blocks: `rows_each` rows along x, channels along y.
template <typename T, int N, typename Store>
__global__ void __launch_bounds__(kFewThreads) FewTapsKernel(const Problem<T> p, const Store store, int64_t rows_each) {
  device::WaitForKernelBefore();
  __shared__ RowReach table[kTable];
  const int64_t channel = (int64_t{blockIdx.y} * kFewThreads + threadIdx.x) * N;
  const bool works = channel < p.c;
  const int64_t begin = blockIdx.x * rows_each;
  const int64_t end = min(p.n, begin + rows_each);
  TapsOf<N> taps;
  Vector<T, N> before[kFewTaps - 1];
  if (works) {
    LoadFewTaps<T, N>(p, channel, taps);
#pragma unroll
    for (int i = 0; i < kFewTaps - 1; ++i) {
      const int64_t row = begin - (kFewTaps - 1) + i;
      if (row >= 0) {
        before[i].Load(p.x + row * p.c + channel);
      }
    }
  }
  for (int64_t base = begin; base < end; base += kTable) {
    __syncthreads();  // nobody reads the table before any more
    if (threadIdx.x < kTable) {
      table[threadIdx.x] = ReachAt(p.rows, base + threadIdx.x, end);
    }
    __syncthreads();
    for (int first = 0; works && first < kTable && base + first < end; first += kForwardStrip) {
      Vector<T, N> current[kForwardStrip];
#pragma unroll
      for (int s = 0; s < kForwardStrip; ++s) {
        if (base + first + s < end) {
          current[s].Load(p.x + (base + first + s) * p.c + channel);
        }
      }
#pragma unroll
      for (int s = 0; s < kForwardStrip; ++s) {
        if (base + first + s < end) {
          const RowReach reach = table[first + s];
          float u[N];
          SumOfRow<T, N, kForwardStrip>(p, taps, before, current, s, reach, channel, u);
          store((base + first + s) * p.c + channel, reach.reach >= 0, current[s], u);
        }
      }
#pragma unroll
      for (int i = 0; i < kFewTaps - 1; ++i) {
        before[i] = current[kForwardStrip - (kFewTaps - 1) + i];
      }
    }
  }
}

// A row's dx, and what it adds to the sums of the taps' gradient: for each of the rows behind it, which are here and
// read it, what that makes of it; and what the row itself makes of the halo's. `window[s]`: du of the row; `reach`: of
// it, and of the rows behind it.
template <typename T, typename G, int N, ConvForm kForm, int kWindow>
__device__ __forceinline__ void BackwardRow(const Problem<T>& p,
                                            const TapsOf<N>& taps,
                                            const Vector<G, N> (&window)[kWindow],
                                            int s,
                                            const Vector<T, N>& x,
                                            const RowReach* reach,
                                            int64_t channel,
                                            float (&gradient)[N],
                                            float (&sums)[kFewTaps][N]) {
  const RowReach own = reach[0];
#pragma unroll
  for (int e = 0; e < N; ++e) {
    gradient[e] = kForm == ConvForm::kSilu && own.reach >= 0 ? 0.0F : window[s][e];
  }
#pragma unroll
  for (int j = 0; j < kFewTaps; ++j) {
    if (min(reach[j].reach, reach[j].here) >= j) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        gradient[e] = fmaf(taps[j][e], window[s + j][e], gradient[e]);
        sums[j][e] = fmaf(window[s + j][e], x[e], sums[j][e]);
      }
    }
    if (j > own.here && j <= own.reach) {
      Vector<T, N> halo;
      halo.Load(p.halo + (own.halo_end - j) * p.c + channel);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        sums[j][e] = fmaf(window[s][e], halo[e], sums[j][e]);
      }
    }
  }
}

// In the order of the weights.
template <typename T, int N>
__device__ __forceinline__ void StoreTapSums(const Problem<T>& p, const float (&sums)[kFewTaps][N], float* to) {
#pragma unroll
  for (int j = 0; j < kFewTaps; ++j) {
    if (j < p.taps) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        to[e * p.taps + p.taps - 1 - j] = sums[j][e];
      }
    }
  }
}

// dx of rows, and a block's sums of the taps' gradient. G: type of du. Blocks as FewTapsKernel's.
template <typename T, typename G, int N, ConvForm kForm>
__global__ void __launch_bounds__(kFewThreads)
    FewTapsBackwardKernel(const Problem<T> p, const G* du, T* dx, float* partials, int64_t rows_each) {
  device::WaitForKernelBefore();
  constexpr int kBehind = kFewTaps - 1;
  __shared__ RowReach table[kTable + kBehind];
  const int64_t channel = (int64_t{blockIdx.y} * kFewThreads + threadIdx.x) * N;
  const bool works = channel < p.c;
  const int64_t begin = blockIdx.x * rows_each;
  const int64_t end = min(p.n, begin + rows_each);
  TapsOf<N> taps;
  Vector<G, N> window[kBackwardStrip + kBehind];  // du of the strip's rows and of those behind it
  float sums[kFewTaps][N] = {};                   // by distance
  if (works) {
    LoadFewTaps<T, N>(p, channel, taps);
#pragma unroll
    for (int i = 0; i < kBehind; ++i) {
      if (begin + i < p.n) {
        window[i].Load(du + (begin + i) * p.c + channel);
      }
    }
  }
  for (int64_t base = begin; base < end; base += kTable) {
    __syncthreads();  // nobody reads the table before any more
    if (threadIdx.x < kTable + kBehind) {
      table[threadIdx.x] = ReachAt(p.rows, base + threadIdx.x, p.n);
    }
    __syncthreads();
    for (int first = 0; works && first < kTable && base + first < end; first += kBackwardStrip) {
      Vector<T, N> x[kBackwardStrip];
#pragma unroll
      for (int s = 0; s < kBackwardStrip; ++s) {
        const int64_t row = base + first + s;
        if (row < end) {
          x[s].Load(p.x + row * p.c + channel);
        }
        if (row + kBehind < p.n) {
          window[s + kBehind].Load(du + (row + kBehind) * p.c + channel);
        }
      }
#pragma unroll
      for (int s = 0; s < kBackwardStrip; ++s) {
        const int64_t row = base + first + s;
        if (row < end) {
          float gradient[N];
          BackwardRow<T, G, N, kForm>(p, taps, window, s, x[s], table + first + s, channel, gradient, sums);
          Vector<T, N> out;
          out.Set(gradient);
          out.Store(dx + row * p.c + channel);
        }
      }
#pragma unroll
      for (int i = 0; i < kBehind; ++i) {
        window[i] = window[kBackwardStrip + i];
      }
    }
  }
  if (works) {
    StoreTapSums<T, N>(p, sums, partials + (int64_t{blockIdx.x} * p.c + channel) * p.taps);
  }
}

}  // namespace ksa::cuda::conv
