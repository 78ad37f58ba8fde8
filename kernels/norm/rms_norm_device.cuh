// The kernels of RMSNorm. A row is held in the registers of one warp, or of a whole block where it is long, from its
// one load to its one store; what does not fit, or is not aligned, is read twice by the kernels named "Any".
#pragma once

#include <cstdint>

#include "kernels/device/column_sums.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/segments.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda::norm {

inline constexpr int kBlockWarps = 4;
inline constexpr int kAnyThreads = 256;

template <typename T>
struct Forward {
  const T* x;         // [n, d]
  const T* residual;  // [residual_rows, d] or null
  T* sum;             // [n, d] where there is a residual
  const T* weight;
  const T* weight_summary;
  T* y;
  float* rstd;
  int64_t n;
  int64_t d;
  int64_t residual_rows;
  int64_t split;
  float eps;
};

template <typename T>
struct Backward {
  const T* dy;
  const T* x;
  const float* rstd;
  const T* weight;
  const T* weight_summary;
  const T* dx_residual;  // or null
  T* dx;
  float* partials;  // [blocks, d], or null: weights' gradients are not wanted
  int64_t d;
  device::Segments segments;  // text rows and summary rows
};

// The sum over the threads that hold one row.
template <int kWarps>
__device__ __forceinline__ float RowSum(float value, float* shared) {
  if constexpr (kWarps == 1) {
    return device::WarpSum(value);
  } else {
    __syncthreads();  // everybody is done with the last sum
    return device::BlockSum<kWarps>(value, shared);
  }
}

// v = what rounds to x + residual in T.
template <typename T, int N>
__device__ __forceinline__ void AddTo(device::Vector<T, N>& v, const device::Vector<T, N>& other) {
  float sum[N];
#pragma unroll
  for (int e = 0; e < N; ++e) {
    sum[e] = v[e] + other[e];
  }
  v.Set(sum);
}

// kWarps warps hold a row, kVectors vectors a thread.
template <typename T, int kVectors, int kWarps>
__global__ void __launch_bounds__(32 * kBlockWarps) ForwardKernel(const Forward<T> p) {
  constexpr int N = device::kVectorElements<T>;
  constexpr int kThreads = 32 * kWarps;
  __shared__ float shared[kWarps];
  const int64_t row = int64_t{blockIdx.x} * (kBlockWarps / kWarps) + threadIdx.x / kThreads;
  if (row >= p.n) {
    return;
  }
  const int64_t first = int64_t{threadIdx.x % kThreads} * N;
  const auto at = [&](int j) { return first + int64_t{j} * (kThreads * N); };
  device::Vector<T, N> x[kVectors];
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (at(j) < p.d) {
      x[j].Load(p.x + row * p.d + at(j));
    }
  }
  if (p.residual != nullptr) {
    device::Vector<T, N> residual[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d && row < p.residual_rows) {
        residual[j].Load(p.residual + row * p.d + at(j));
      }
    }
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d) {
        if (row < p.residual_rows) {
          AddTo(x[j], residual[j]);
        }
        x[j].Store(p.sum + row * p.d + at(j));
      }
    }
  }
  float squares = 0.0F;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (at(j) < p.d) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        squares += x[j][e] * x[j][e];
      }
    }
  }
  squares = RowSum<kWarps>(squares, shared);
  const float rstd = 1.0F / sqrtf(squares / static_cast<float>(p.d) + p.eps);
  if (threadIdx.x % kThreads == 0) {
    p.rstd[row] = rstd;
  }
  const T* weight = row < p.split ? p.weight : p.weight_summary;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    if (at(j) < p.d) {
      device::Vector<T, N> w;
      w.Load(weight + at(j));
      float y[N];
#pragma unroll
      for (int e = 0; e < N; ++e) {
        y[e] = x[j][e] * rstd * w[e];
      }
      w.Set(y);
      w.Store(p.y + row * p.d + at(j));
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kAnyThreads) ForwardAnyKernel(const Forward<T> p) {
  __shared__ float shared[kAnyThreads / 32];
  const int64_t row = blockIdx.x;
  const T* x = p.x + row * p.d;
  float squares = 0.0F;
  for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
    T value = x[i];
    if (p.residual != nullptr) {
      if (row < p.residual_rows) {
        value = T(static_cast<float>(value) + static_cast<float>(p.residual[row * p.d + i]));
      }
      p.sum[row * p.d + i] = value;
    }
    squares += static_cast<float>(value) * static_cast<float>(value);
  }
  squares = device::BlockSum<kAnyThreads / 32>(squares, shared);
  const float rstd = 1.0F / sqrtf(squares / static_cast<float>(p.d) + p.eps);
  if (threadIdx.x == 0) {
    p.rstd[row] = rstd;
  }
  const T* weight = row < p.split ? p.weight : p.weight_summary;
  const T* normed = p.residual != nullptr ? p.sum + row * p.d : x;  // every thread reads what it wrote itself
  for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
    p.y[row * p.d + i] = T(static_cast<float>(normed[i]) * rstd * static_cast<float>(weight[i]));
  }
}

// Adds up the weight's gradient over the warps of a block, each of which holds all columns, and writes the block's
// part.
template <typename T, int kVectors>
__device__ __forceinline__ void WriteWarpSums(const Backward<T>& p,
                                              const float (&sums)[kVectors][device::kVectorElements<T>]) {
  constexpr int N = device::kVectorElements<T>;
  constexpr int kColumns = 32 * N * kVectors;
  __shared__ float shared[kBlockWarps][kColumns];
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      shared[threadIdx.x / 32][(j * 32 + lane) * N + e] = sums[j][e];
    }
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < p.d; c += 32 * kBlockWarps) {
    float sum = shared[0][c];
#pragma unroll
    for (int w = 1; w < kBlockWarps; ++w) {
      sum += shared[w][c];
    }
    p.partials[blockIdx.x * p.d + c] = sum;
  }
}

template <typename T, int kVectors, int kWarps>
__global__ void __launch_bounds__(32 * kBlockWarps, 2) BackwardKernel(const Backward<T> p) {
  constexpr int N = device::kVectorElements<T>;
  constexpr int kThreads = 32 * kWarps;
  __shared__ float shared[kWarps];
  const device::BlockRows rows(p.segments, kBlockWarps / kWarps);
  const T* weight = rows.second ? p.weight_summary : p.weight;
  const int64_t first = int64_t{threadIdx.x % kThreads} * N;
  const auto at = [&](int j) { return first + int64_t{j} * (kThreads * N); };
  float sums[kVectors][N] = {};
  for (int64_t row = rows.first + threadIdx.x / kThreads; row < rows.last; row += rows.step) {
    device::Vector<T, N> x[kVectors];
    device::Vector<T, N> dy[kVectors];
    device::Vector<T, N> past[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d) {
        x[j].Load(p.x + row * p.d + at(j));
        dy[j].Load(p.dy + row * p.d + at(j));
      }
    }
    if (p.dx_residual != nullptr) {
#pragma unroll
      for (int j = 0; j < kVectors; ++j) {
        if (at(j) < p.d) {
          past[j].Load(p.dx_residual + row * p.d + at(j));
        }
      }
    }
    const float rstd = p.rstd[row];
    float dot = 0.0F;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d) {
        device::Vector<T, N> w;
        w.Load(weight + at(j));
#pragma unroll
        for (int e = 0; e < N; ++e) {
          dot += dy[j][e] * w[e] * x[j][e];
        }
      }
    }
    const float mean = RowSum<kWarps>(dot, shared) * rstd / static_cast<float>(p.d);
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d) {
        device::Vector<T, N> out;
        out.Load(weight + at(j));
        float dx[N];
#pragma unroll
        for (int e = 0; e < N; ++e) {
          const float normed = x[j][e] * rstd;
          sums[j][e] += dy[j][e] * normed;
          dx[e] = rstd * (dy[j][e] * out[e] - normed * mean);
        }
        out.Set(dx);
        if (p.dx_residual != nullptr) {
          AddTo(out, past[j]);
        }
        out.Store(p.dx + row * p.d + at(j));
      }
    }
  }
  if (p.partials == nullptr) {
    return;
  }
  if constexpr (kWarps == 1) {
    WriteWarpSums<T, kVectors>(p, sums);
  } else {
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      if (at(j) < p.d) {
        device::Vector<float, N> out;
        out.Set(sums[j]);
        out.Store(p.partials + blockIdx.x * p.d + at(j));
      }
    }
  }
}

// Sums of the weight's gradient grow in the block's own row of scratch; each thread has its columns.
template <typename T>
__global__ void __launch_bounds__(kAnyThreads) BackwardAnyKernel(const Backward<T> p) {
  __shared__ float shared[kAnyThreads / 32];
  const device::BlockRows rows(p.segments, 1);
  const T* weight = rows.second ? p.weight_summary : p.weight;
  float* sums = p.partials == nullptr ? nullptr : p.partials + blockIdx.x * p.d;
  for (int64_t i = threadIdx.x; i < p.d && sums != nullptr; i += kAnyThreads) {
    sums[i] = 0.0F;
  }
  for (int64_t row = rows.first; row < rows.last; row += rows.step) {
    const T* x = p.x + row * p.d;
    const T* dy = p.dy + row * p.d;
    const float rstd = p.rstd[row];
    float dot = 0.0F;
    for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
      dot += static_cast<float>(dy[i]) * static_cast<float>(weight[i]) * static_cast<float>(x[i]);
    }
    const float mean = RowSum<kAnyThreads / 32>(dot, shared) * rstd / static_cast<float>(p.d);
    for (int64_t i = threadIdx.x; i < p.d; i += kAnyThreads) {
      const float normed = static_cast<float>(x[i]) * rstd;
      const float g = static_cast<float>(dy[i]);
      if (sums != nullptr) {
        sums[i] += g * normed;
      }
      T out = T(rstd * (g * static_cast<float>(weight[i]) - normed * mean));
      if (p.dx_residual != nullptr) {
        out = T(static_cast<float>(p.dx_residual[row * p.d + i]) + static_cast<float>(out));
      }
      p.dx[row * p.d + i] = out;
    }
  }
}

}  // namespace ksa::cuda::norm
