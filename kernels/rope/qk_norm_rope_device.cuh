// The kernels of the norm and the rotation of heads. A warp takes a row, and groups of its lanes one head each: a lane
// has a vector of a head's first half and the vector it is turned with of the second half, so that nothing is exchanged
// but the sums. Heads that do not divide so, or are not aligned, are done by the kernels named "Any", a pair a lane.
#pragma once

#include <cstdint>

#include "kernels/core/summary_layout.h"
#include "kernels/device/reduce.cuh"
#include "kernels/device/segments.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda::rope {

inline constexpr int kBlockWarps = 4;

template <typename T>
struct Forward {
  const T* x;               // [n, h, e]
  const T* weight;          // [e], or null: no norm
  const T* weight_summary;  // [e], or null without norm
  const float* table;       // [positions, e/2, 2]
  T* y;                     // [n, h, e]
  float* rstd;              // [n, h]
  SummaryLayout layout;
  int64_t n;
  int64_t first_row;
  int64_t split;
  int h;
  int e;
  float eps;
};

template <typename T>
struct Backward {
  const T* dy;
  const T* x;               // null without norm
  const float* rstd;        // null without norm
  const T* weight;          // null without norm
  const T* weight_summary;  // null without norm
  const float* table;
  T* dx;
  float* partials;  // [blocks, e], or null: the weights' gradients are not wanted
  SummaryLayout layout;
  device::Segments segments;  // text rows and summary rows
  int64_t first_row;
  int h;
  int e;
};

// A head's two vectors that are turned together.
template <typename T>
struct Pairs {
  static constexpr int N = device::kVectorElements<T>;

  device::Vector<T, N> a;  // elements i, ...
  device::Vector<T, N> b;  // elements i + e/2, ...

  __device__ __forceinline__ void Load(const T* head, int i, int half) {
    a.Load(head + i);
    b.Load(head + i + half);
  }

  __device__ __forceinline__ void Store(T* head, int i, int half) const {
    a.Store(head + i);
    b.Store(head + i + half);
  }
};

// Which lane works where: `lanes` of them on one head.
template <typename T>
struct Place {
  __device__ explicit Place(int e)
      : half(e / 2),
        lanes(half / Pairs<T>::N),
        groups(32 / lanes),
        group(static_cast<int>(threadIdx.x) % 32 / lanes),
        i(static_cast<int>(threadIdx.x) % lanes * Pairs<T>::N) {}

  int half;
  int lanes;   // of a head
  int groups;  // heads at once
  int group;   // this lane's
  int i;       // this lane's first element
};

template <typename T, bool kNorm>
__global__ void __launch_bounds__(32 * kBlockWarps) ForwardKernel(const Forward<T> p) {
  constexpr int N = Pairs<T>::N;
  constexpr int kUnroll = 4;
  const int64_t row = int64_t{blockIdx.x} * kBlockWarps + threadIdx.x / 32;
  if (row >= p.n) {
    return;
  }
  const Place<T> at(p.e);
  const T* x = p.x + row * p.h * p.e;
  T* y = p.y + row * p.h * p.e;
  device::Vector<float, 2 * N> angles;
  Pairs<T> weight;
  for (int base = 0; base < p.h; base += kUnroll * at.groups) {
    Pairs<T> in[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int head = base + u * at.groups + at.group;
      if (head < p.h) {
        in[u].Load(x + head * p.e, at.i, at.half);
      }
    }
    if (base == 0) {
      angles.Load(p.table + (int64_t{p.layout.Position(row + p.first_row)} * at.half + at.i) * 2);
      if constexpr (kNorm) {
        weight.Load(row < p.split ? p.weight : p.weight_summary, at.i, at.half);
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int head = base + u * at.groups + at.group;
      float rstd = 1.0F;
      if constexpr (kNorm) {
        float squares = 0.0F;
        if (head < p.h) {
#pragma unroll
          for (int k = 0; k < N; ++k) {
            squares += in[u].a[k] * in[u].a[k] + in[u].b[k] * in[u].b[k];
          }
        }
        squares = device::GroupSum(squares, at.lanes);
        rstd = 1.0F / sqrtf(squares / static_cast<float>(p.e) + p.eps);
        if (head < p.h && at.i == 0) {
          p.rstd[row * p.h + head] = rstd;
        }
      }
      if (head < p.h) {
        float first[N];
        float second[N];
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const float x1 = kNorm ? in[u].a[k] * rstd * weight.a[k] : in[u].a[k];
          const float x2 = kNorm ? in[u].b[k] * rstd * weight.b[k] : in[u].b[k];
          const float cos = angles[2 * k];
          const float sin = angles[2 * k + 1];
          first[k] = x1 * cos - x2 * sin;
          second[k] = x2 * cos + x1 * sin;
        }
        in[u].a.Set(first);
        in[u].b.Set(second);
        in[u].Store(y + head * p.e, at.i, at.half);
      }
    }
  }
}

// One head's gradient: turns dy back, and goes through the norm. `sums` grow by the weight's gradient.
template <typename T, bool kNorm>
__device__ __forceinline__ void BackwardHead(const device::Vector<float, 2 * Pairs<T>::N>& angles,
                                             const Pairs<T>& weight,
                                             const Pairs<T>& x,
                                             Pairs<T>& dy,
                                             float rstd,
                                             const Backward<T>& p,
                                             int lanes,
                                             bool valid,
                                             float (&sums)[2][Pairs<T>::N]) {
  constexpr int N = Pairs<T>::N;
  float first[N];
  float second[N];
  float dot = 0.0F;
  if (valid) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float cos = angles[2 * k];
      const float sin = angles[2 * k + 1];
      first[k] = dy.a[k] * cos + dy.b[k] * sin;
      second[k] = dy.b[k] * cos - dy.a[k] * sin;
      if constexpr (kNorm) {
        dot += first[k] * weight.a[k] * x.a[k] + second[k] * weight.b[k] * x.b[k];
      }
    }
  }
  if constexpr (kNorm) {
    const float mean = device::GroupSum(dot, lanes) * rstd / static_cast<float>(p.e);
    if (valid) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const float normed_first = x.a[k] * rstd;
        const float normed_second = x.b[k] * rstd;
        sums[0][k] += first[k] * normed_first;
        sums[1][k] += second[k] * normed_second;
        first[k] = rstd * (first[k] * weight.a[k] - normed_first * mean);
        second[k] = rstd * (second[k] * weight.b[k] - normed_second * mean);
      }
    }
  }
  if (valid) {
    dy.a.Set(first);
    dy.b.Set(second);
  }
}

// Adds up the weight's gradient over a block's lanes with the same elements and writes the block's part.
template <typename T>
__device__ __forceinline__ void WriteSums(const Backward<T>& p,
                                          const Place<T>& at,
                                          const float (&sums)[2][Pairs<T>::N]) {
  constexpr int N = Pairs<T>::N;
  constexpr int kThreads = 32 * kBlockWarps;
  __shared__ float shared[kThreads * 2 * N];  // [warp and group][e]
  float* own = shared + (threadIdx.x / 32 * at.groups + at.group) * p.e;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    own[at.i + k] = sums[0][k];
    own[at.i + at.half + k] = sums[1][k];
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < p.e; c += kThreads) {
    float sum = shared[c];
    for (int g = 1; g < kBlockWarps * at.groups; ++g) {
      sum += shared[g * p.e + c];
    }
    p.partials[int64_t{blockIdx.x} * p.e + c] = sum;
  }
}

template <typename T, bool kNorm>
__global__ void __launch_bounds__(32 * kBlockWarps) BackwardKernel(const Backward<T> p) {
  constexpr int N = Pairs<T>::N;
  constexpr int kUnroll = 2;
  const Place<T> at(p.e);
  const device::BlockRows rows(p.segments, kBlockWarps);
  Pairs<T> weight;
  if constexpr (kNorm) {
    weight.Load(rows.second ? p.weight_summary : p.weight, at.i, at.half);
  }
  float sums[2][N] = {};
  for (int64_t row = rows.first + threadIdx.x / 32; row < rows.last; row += rows.step) {
    const int64_t offset = row * p.h * p.e;
    device::Vector<float, 2 * N> angles;
    angles.Load(p.table + (int64_t{p.layout.Position(row + p.first_row)} * at.half + at.i) * 2);
    for (int base = 0; base < p.h; base += kUnroll * at.groups) {
      Pairs<T> dy[kUnroll];
      Pairs<T> x[kUnroll];
      float rstd[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int head = base + u * at.groups + at.group;
        if (head < p.h) {
          dy[u].Load(p.dy + offset + head * p.e, at.i, at.half);
          if constexpr (kNorm) {
            x[u].Load(p.x + offset + head * p.e, at.i, at.half);
            rstd[u] = p.rstd[row * p.h + head];
          }
        }
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int head = base + u * at.groups + at.group;
        BackwardHead<T, kNorm>(angles, weight, x[u], dy[u], rstd[u], p, at.lanes, head < p.h, sums);
        if (head < p.h) {
          dy[u].Store(p.dx + offset + head * p.e, at.i, at.half);
        }
      }
    }
  }
  if constexpr (kNorm) {
    if (p.partials != nullptr) {
      WriteSums<T>(p, at, sums);
    }
  }
}

// A block of one warp takes a row.
template <typename T>
__global__ void __launch_bounds__(32) ForwardAnyKernel(const Forward<T> p) {
  const int64_t row = blockIdx.x;
  const int half = p.e / 2;
  const float* angles = p.table + int64_t{p.layout.Position(row + p.first_row)} * p.e;
  const T* weight = row < p.split ? p.weight : p.weight_summary;
  for (int head = 0; head < p.h; ++head) {
    const T* x = p.x + (row * p.h + head) * p.e;
    T* y = p.y + (row * p.h + head) * p.e;
    float rstd = 1.0F;
    if (weight != nullptr) {
      float squares = 0.0F;
      for (int i = static_cast<int>(threadIdx.x); i < p.e; i += 32) {
        squares += static_cast<float>(x[i]) * static_cast<float>(x[i]);
      }
      rstd = 1.0F / sqrtf(device::WarpSum(squares) / static_cast<float>(p.e) + p.eps);
      if (threadIdx.x == 0) {
        p.rstd[row * p.h + head] = rstd;
      }
    }
    for (int i = static_cast<int>(threadIdx.x); i < half; i += 32) {
      const float w1 = weight == nullptr ? 1.0F : static_cast<float>(weight[i]);
      const float w2 = weight == nullptr ? 1.0F : static_cast<float>(weight[i + half]);
      const float x1 = static_cast<float>(x[i]) * rstd * w1;
      const float x2 = static_cast<float>(x[i + half]) * rstd * w2;
      y[i] = T(x1 * angles[2 * i] - x2 * angles[2 * i + 1]);
      y[i + half] = T(x2 * angles[2 * i] + x1 * angles[2 * i + 1]);
    }
  }
}

// A block of one warp takes rows of its segment. The weight's gradient grows in the block's row of scratch, where every
// lane has its elements.
template <typename T>
__global__ void __launch_bounds__(32) BackwardAnyKernel(const Backward<T> p) {
  const device::BlockRows rows(p.segments, 1);
  const int half = p.e / 2;
  const T* weight = rows.second ? p.weight_summary : p.weight;
  float* sums = p.partials == nullptr ? nullptr : p.partials + int64_t{blockIdx.x} * p.e;
  for (int i = static_cast<int>(threadIdx.x); i < half && sums != nullptr; i += 32) {
    sums[i] = 0.0F;
    sums[i + half] = 0.0F;
  }
  for (int64_t row = rows.first; row < rows.last; row += rows.step) {
    const float* angles = p.table + int64_t{p.layout.Position(row + p.first_row)} * p.e;
    for (int head = 0; head < p.h; ++head) {
      const int64_t offset = (row * p.h + head) * p.e;
      const auto turned = [&](int i, float& g1, float& g2) {
        const float d1 = static_cast<float>(p.dy[offset + i]);
        const float d2 = static_cast<float>(p.dy[offset + i + half]);
        g1 = d1 * angles[2 * i] + d2 * angles[2 * i + 1];
        g2 = d2 * angles[2 * i] - d1 * angles[2 * i + 1];
      };
      float rstd = 1.0F;
      float mean = 0.0F;
      if (weight != nullptr) {
        rstd = p.rstd[row * p.h + head];
        float dot = 0.0F;
        for (int i = static_cast<int>(threadIdx.x); i < half; i += 32) {
          float g1 = 0.0F;
          float g2 = 0.0F;
          turned(i, g1, g2);
          dot += g1 * static_cast<float>(weight[i]) * static_cast<float>(p.x[offset + i]) +
                 g2 * static_cast<float>(weight[i + half]) * static_cast<float>(p.x[offset + i + half]);
        }
        mean = device::WarpSum(dot) * rstd / static_cast<float>(p.e);
      }
      for (int i = static_cast<int>(threadIdx.x); i < half; i += 32) {
        float g1 = 0.0F;
        float g2 = 0.0F;
        turned(i, g1, g2);
        if (weight != nullptr) {
          const float n1 = static_cast<float>(p.x[offset + i]) * rstd;
          const float n2 = static_cast<float>(p.x[offset + i + half]) * rstd;
          if (sums != nullptr) {
            sums[i] += g1 * n1;
            sums[i + half] += g2 * n2;
          }
          g1 = rstd * (g1 * static_cast<float>(weight[i]) - n1 * mean);
          g2 = rstd * (g2 * static_cast<float>(weight[i + half]) - n2 * mean);
        }
        p.dx[offset + i] = T(g1);
        p.dx[offset + i + half] = T(g2);
      }
    }
  }
}

}  // namespace ksa::cuda::rope
