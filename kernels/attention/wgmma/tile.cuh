// What the consumer warpgroups of the sm_90a kernels that hold queries share: products of tiles, masks, the turns that
// the two take at the tensor cores, and the store of results.
#pragma once

#include <cstdint>

#include "kernels/attention/wgmma/shared.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/wgmma.cuh"

namespace ksa::cuda_attention::wgmma {

// 0 or 1, known to be the same in the whole warp: then descriptors and barrier numbers cost no registers.
__device__ __forceinline__ uint32_t ConsumerGroup() {
  return __shfl_sync(0xffffffff, threadIdx.x / 128 - 1, 0);
}

// One arrival of this warp: its products have read a slot (they are waited for by the whole warp).
__device__ __forceinline__ void ReleaseSlot(uint64_t* empty) {
  if (threadIdx.x % 32 == 0) {
    device::Arrive(empty);
  }
}

// The two consumer warpgroups use the tensor cores in turns: without, both would compute exponentials at the same time,
// and the tensor cores would wait for them.
struct PingPongBarrier {
  uint32_t group;

  __device__ __forceinline__ void Begin() const {
    if (group == 1) {
      device::NamedArrive(1, 256);
    }
  }

  __device__ __forceinline__ void Take() const { device::NamedSync(1 + group, 256); }

  __device__ __forceinline__ void Pass() const { device::NamedArrive(2 - group, 256); }

  __device__ __forceinline__ void End() const {
    if (group == 0) {
      device::NamedSync(1, 256);
    }
  }
};

// Keeps a wait for products behind the arithmetic that gives `values`, which are never negative: they depend on nothing
// that the wait brings, and the assembler would move the wait before them, so that nothing ran beside the products. It
// does not move it across another barrier's instruction; this one is never executed.
template <int kCount>
__device__ __forceinline__ void HoldWaitFor(const float (&values)[kCount], uint64_t* barrier) {
  float least = values[0];
#pragma unroll
  for (int i = 1; i < kCount; ++i) {
    least = fminf(least, values[i]);
  }
  if (least < -1.0F) {
    device::Arrive(barrier);
  }
}

// scores [64, n] = rows of `queries` · keysᵀ, n = 128 or, of half a tile of keys, 64; `queries` is the descriptor of
// this warpgroup's 64 rows.
template <int kHeadDim, int kCount>
__device__ __forceinline__ void IssueScores(float (&scores)[kCount], uint64_t queries, uint64_t keys) {
  constexpr uint32_t kBlockBytes = SharedTile<kHeadDim>::kBlockBytes;
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    const uint32_t offset = step / 4 * kBlockBytes + step % 4 * 32;
    device::WgmmaSs<2 * kCount>(scores, device::Advance(queries, offset), device::Advance(keys, offset), step > 0);
  }
}

// Weights of a tile as operands, 16 keys each; of half a tile, the first 4.
using Weights = uint32_t[kTileKeys / 16][4];

// sums [64, e] (+)= weights [64, 16·kSteps] · tile [16·kSteps, e]; `tile` is the descriptor of rows that are the depth.
template <int kHeadDim, int kSteps>
__device__ __forceinline__ void IssueWeightedSum(float (&sums)[kHeadDim / 2],
                                                 const Weights& weights,
                                                 uint64_t tile,
                                                 bool accumulate) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    device::WgmmaRs<kHeadDim, true>(sums, weights[step], device::Advance(tile, step * 2048), accumulate || step > 0);
  }
}

// From a tile's first key to the first of the half that is meant, in descriptors of keys and of values.
__device__ __forceinline__ uint32_t HalfOffset(const KeyTile& tile) {
  return tile.second_half ? kTileKeys / 2 * 128 : 0;
}

template <int kHeadDim>
__device__ __forceinline__ uint64_t DepthAlongColumns(const SharedTile<kHeadDim>& tile, uint32_t first_row = 0) {
  return device::Descriptor(tile.bytes + first_row * 128, 16, 1024);
}

template <int kHeadDim>
__device__ __forceinline__ uint64_t DepthAlongRows(const SharedTile<kHeadDim>& tile) {
  return device::Descriptor(tile.bytes, SharedTile<kHeadDim>::kBlockBytes, 1024);
}

template <int kCount>
__device__ __forceinline__ void PackWeights(Weights& weights, const float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    weights[i / 4][i % 4] = device::PackBFloat16(values[2 * i], values[2 * i + 1]);
  }
}

__device__ __forceinline__ void PinWeights(Weights& weights) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    device::Pin(weights[step]);
  }
}

// Sets the scores of pairs that are not visible to -infinity. `rows`: the keys of this thread's two rows.
template <int kCount>
__device__ __forceinline__ void MaskScores(float (&scores)[kCount], const RowKeys (&rows)[2], const KeyTile& tile) {
  const auto column = static_cast<int32_t>(tile.first + threadIdx.x % 4 * 2);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int32_t begin = (tile.is_text ? rows[i].text.begin : rows[i].summary.begin) - column;
    const int32_t end = (tile.is_text ? rows[i].text.end : rows[i].summary.end) - column;
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& score = scores[4 * j + 2 * i + c];
        score = 8 * j + c >= begin && 8 * j + c < end ? score : -INFINITY;
      }
    }
  }
}

// Stores a warp's 16 rows of results, scaled by factor[i] for this thread's rows, as bf16. `global`: row 0 of the warp;
// rows from `rows` on are not stored.
template <int kHeadDim>
__device__ __forceinline__ void StoreRows(const float (&results)[kHeadDim / 2],
                                          const float (&factor)[2],
                                          BFloat16* global,
                                          int64_t row_stride,
                                          int32_t rows) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int32_t row = lane / 4 + 8 * i;
    BFloat16* to = global + row * row_stride + lane % 4 * 8;
#pragma unroll
    for (int block = 0; block < kHeadDim / 32; ++block) {
      uint32_t pairs[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* pair = &results[16 * block + 4 * j + 2 * i];
        pairs[j] = device::PackBFloat16(pair[0] * factor[i], pair[1] * factor[i]);
      }
      device::TransposeQuad(pairs);
      if (row < rows) {
        *reinterpret_cast<uint4*>(to + 32 * block) = {pairs[0], pairs[1], pairs[2], pairs[3]};
      }
    }
  }
}

}  // namespace ksa::cuda_attention::wgmma
