// Neighbouring elements of a row of logits that move together.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/core/dtype.h"
#include "kernels/loss/softmax_partial.cuh"

namespace ksa::cuda {

// Whether gradients of this type deserve exact exponentials.
template <typename G>
constexpr bool kExact = std::is_same_v<G, float>;

// kWidth neighbouring elements.
template <int kWidth>
struct Pack;

template <>
struct Pack<1> {
  float x[1];

  __device__ void Load(const float* from) { x[0] = __ldcs(from); }

  __device__ void FromCache(const float* from) { x[0] = *from; }

  __device__ void ToCache(float* to) const { *to = x[0]; }

  __device__ void Store(float* to) const { *to = x[0]; }

  __device__ void Store(BFloat16* to) const { *to = BFloat16(x[0]); }
};

template <>
struct Pack<4> {
  float x[4];

  __device__ void Load(const float* from) { *this = __ldcs(reinterpret_cast<const float4*>(from)); }

  __device__ void FromCache(const float* from) { *this = *reinterpret_cast<const float4*>(from); }

  __device__ void ToCache(float* to) const { *reinterpret_cast<float4*>(to) = {x[0], x[1], x[2], x[3]}; }

  __device__ void Store(float* to) const { ToCache(to); }

  __device__ void Store(BFloat16* to) const {
    *reinterpret_cast<ushort4*>(to) = {
        BFloat16(x[0]).bits, BFloat16(x[1]).bits, BFloat16(x[2]).bits, BFloat16(x[3]).bits};
  }

  __device__ Pack& operator=(const float4& from) {
    x[0] = from.x;
    x[1] = from.y;
    x[2] = from.z;
    x[3] = from.w;
    return *this;
  }
};

// Adds the elements' exponentials.
template <bool kExactly, int kWidth>
__device__ void Add(const Pack<kWidth>& pack, Partial& partial) {
  float largest = pack.x[0];
#pragma unroll
  for (int e = 1; e < kWidth; ++e) {
    largest = fmaxf(largest, pack.x[e]);
  }
  if (largest > partial.largest) {
    partial.sum *= Exponential<kExactly>(partial.largest - largest);
    partial.largest = largest;
  }
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    partial.sum += Exponential<kExactly>(pack.x[e] - partial.largest);
  }
}

// function(pack, i), kUnroll of them on their way at once, for the packs of the row of a block of kThreads threads that
// belong to this thread, i the first element's column.
template <int kThreads, int kUnroll, int kWidth, typename Function>
__device__ void ForPacks(const float* row, int64_t v, const Function& function) {
  constexpr int64_t kStep = kThreads * kWidth;
  for (int64_t i = threadIdx.x * kWidth; i < v; i += kUnroll * kStep) {
    Pack<kWidth> packs[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * kStep < v) {
        packs[u].Load(row + i + u * kStep);
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * kStep < v) {
        function(packs[u], i + u * kStep);
      }
    }
  }
}

}  // namespace ksa::cuda
