// How a consumer warpgroup of attention_wgmma_backward_keys.cu writes an item's gradients.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_wgmma_keys_plan.cuh"
#include "kernels/attention/attention_wgmma_keys_shared.cuh"
#include "kernels/core/dtype.h"
#include "kernels/device/wgmma.cuh"

namespace ksa::cuda_attention::wgmma {

// Lane t of four neighbours gets what they hold in x[t], in their order.
__device__ __forceinline__ void TransposeAmongFour(uint32_t (&x)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (threadIdx.x & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) == 0) {
        const uint32_t got = __shfl_xor_sync(0xffffffffU, upper ? x[i] : x[i + bit], bit);
        (upper ? x[i] : x[i + bit]) = got;
      }
    }
  }
}

// A consumer's rows of a gradient to its rows [*, e] of `to`, `pitch` elements apart. `kept`: of the two keys of this
// thread, whether they are stored, and whether anybody sees them.
template <int kDim>
__device__ __forceinline__ void StoreGradient(const float (&x)[kDim / 2],
                                              float factor,
                                              const bool (&stored)[2],
                                              const bool (&seen)[2],
                                              int64_t pitch,
                                              BFloat16* to) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < kDim / 8; j += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float low = factor * x[4 * (j + n) + 2 * i];
        const float high = factor * x[4 * (j + n) + 2 * i + 1];
        pairs[n] = seen[i] ? device::PackBFloat16(low, high) : 0;
      }
      TransposeAmongFour(pairs);
      if (stored[i]) {
        *reinterpret_cast<uint4*>(to + 8 * i * pitch + 8 * (j + lane % 4)) = {pairs[0], pairs[1], pairs[2], pairs[3]};
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void StorePart(const float (&x)[kDim / 2], const bool (&seen)[2], float* to) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const float2 pair = {x[4 * j + 2 * i], x[4 * j + 2 * i + 1]};
      *reinterpret_cast<float2*>(to + 8 * i * kDim + 8 * j + 2 * (lane % 4)) = seen[i] ? pair : float2{0.0F, 0.0F};
    }
  }
}

template <int kDim>
__device__ __forceinline__ void StoreItem(const KeysParameters& p,
                                          const TilePlan& plan,
                                          const WorkItem& item,
                                          int32_t consumer,
                                          const float (&dk)[kDim / 2],
                                          const float (&dv)[kDim / 2]) {
  const auto thread = static_cast<int32_t>(threadIdx.x % 128);
  const int32_t key = consumer * kGroupKeys + thread / 32 * 16 + thread % 32 / 4;
  bool stored[2];
  bool seen[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int4 readers = plan.readers[key + 8 * i];
    stored[i] = key + 8 * i < plan.keys;
    seen[i] = readers.x < readers.y || readers.z < readers.w;
  }
  if (item.slot >= 0) {
    float* to = p.parts + (int64_t{item.slot} * 2 * kTileKeys + key) * kDim;
    StorePart<kDim>(dk, seen, to);
    StorePart<kDim>(dv, seen, to + kTileKeys * kDim);
    return;
  }
  const int64_t pitch = int64_t{p.problem.groups} * kDim;
  const int64_t at = (int64_t{plan.key_row} + key) * pitch + item.group * kDim;
  StoreGradient<kDim>(dk, p.problem.scale, stored, seen, pitch, p.dk + at);
  StoreGradient<kDim>(dv, 1.0F, stored, seen, pitch, p.dv + at);
}

}  // namespace ksa::cuda_attention::wgmma
