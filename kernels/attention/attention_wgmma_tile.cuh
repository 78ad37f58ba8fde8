// What the consumer warpgroups of the sm_90a kernels that hold queries share: products of tiles, masks, the turns that
// the two take at the tensor cores, and the store of results.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_wgmma_shared.cuh"
#include "kernels/device/wgmma.cuh"

namespace ksa::cuda_attention::wgmma {

__device__ __forceinline__ float Exp2(float x) {
  float y = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 0 or 1, known to be the same in the whole warp: then descriptors and barrier numbers cost no registers.
__device__ __forceinline__ uint32_t ConsumerGroup() {
  return __shfl_sync(0xffffffff, threadIdx.x / 128 - 1, 0);
}

// One arrival of this warp: it has read a slot.
__device__ __forceinline__ void ReleaseSlot(uint64_t* empty) {
  if (threadIdx.x % 32 == 0) {
    device::Arrive(empty);
  }
}

// The two consumer warpgroups use the tensor cores in turns: without, both would compute exponentials at the same time,
// and the tensor cores would wait for them.
struct Turns {
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

// scores [64, 128] = rows of `queries` · keysᵀ; `queries` is the descriptor of this warpgroup's 64 rows.
template <int kHeadDim>
__device__ __forceinline__ void IssueScores(float (&scores)[64], uint64_t queries, uint64_t keys) {
  constexpr uint32_t kBlockBytes = SharedTile<kHeadDim>::kBlockBytes;
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    const uint32_t offset = step / 4 * kBlockBytes + step % 4 * 32;
    device::WgmmaSs<kTileKeys>(scores, device::Advance(queries, offset), device::Advance(keys, offset), step > 0);
  }
}

// sums [64, e] (+)= weights [64, 128] · tile [128, e]; `tile` is the descriptor of a tile whose rows are the depth.
template <int kHeadDim>
__device__ __forceinline__ void IssueWeightedSum(float (&sums)[kHeadDim / 2],
                                                 const uint32_t (&weights)[kTileKeys / 16][4],
                                                 uint64_t tile,
                                                 bool accumulate) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    device::WgmmaRs<kHeadDim, true>(sums, weights[step], device::Advance(tile, step * 2048), accumulate || step > 0);
  }
}

template <int kHeadDim>
__device__ __forceinline__ uint64_t DepthAlongColumns(const SharedTile<kHeadDim>& tile, uint32_t first_row = 0) {
  return device::Descriptor(tile.bytes + first_row * 128, 16, 1024);
}

template <int kHeadDim>
__device__ __forceinline__ uint64_t DepthAlongRows(const SharedTile<kHeadDim>& tile) {
  return device::Descriptor(tile.bytes, SharedTile<kHeadDim>::kBlockBytes, 1024);
}

__device__ __forceinline__ void PackWeights(uint32_t (&weights)[kTileKeys / 16][4], const float (&values)[64]) {
#pragma unroll
  for (int i = 0; i < kTileKeys / 4; ++i) {
    weights[i / 4][i % 4] = device::PackBf16(values[2 * i], values[2 * i + 1]);
  }
}

__device__ __forceinline__ void PinWeights(uint32_t (&weights)[kTileKeys / 16][4]) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    device::Pin(weights[step]);
  }
}

// Sets the scores of pairs that are not visible to -infinity. `rows`: the keys of this thread's two rows; `first`: of
// the tile of text or of summary keys.
__device__ __forceinline__ void MaskScores(float (&scores)[64], const RowKeys (&rows)[2], bool is_text, int32_t first) {
  const auto column = static_cast<int32_t>(first + threadIdx.x % 4 * 2);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int32_t begin = (is_text ? rows[i].text.begin : rows[i].summary.begin) - column;
    const int32_t end = (is_text ? rows[i].text.end : rows[i].summary.end) - column;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& score = scores[4 * j + 2 * i + c];
        score = 8 * j + c >= begin && 8 * j + c < end ? score : -INFINITY;
      }
    }
  }
}

// Stores a warp's 16 rows of results, scaled by factor[i] for this thread's rows, as bf16: through the warp's rows of
// `stage`, so that rows leave in whole 16-byte units. `global`: row 0 of the warp; rows from `rows` on are not stored.
template <int kHeadDim>
__device__ __forceinline__ void StoreRows(SharedTile<kHeadDim>& stage,
                                          const float (&results)[kHeadDim / 2],
                                          const float (&factor)[2],
                                          BFloat16* global,
                                          int64_t row_stride,
                                          int32_t rows) {
  constexpr uint32_t kUnits = kHeadDim / 8;  // of 16 bytes, a row
  constexpr uint32_t kBlockBytes = SharedTile<kHeadDim>::kBlockBytes;
  const uint32_t lane = threadIdx.x % 32;
  uint8_t* own = stage.bytes + (threadIdx.x - 128) / 32 * (16 * 128);
#pragma unroll
  for (uint32_t j = 0; j < kHeadDim / 16; ++j) {
    const uint32_t byte = j % 4 * 32 + lane / 16 * 16;
    const float* part = &results[8 * j];
    device::StoreMatrix(device::SharedAddress(own) + j / 4 * kBlockBytes + device::SwizzledOffset(lane % 16, byte),
                        device::PackBf16(part[0] * factor[0], part[1] * factor[0]),
                        device::PackBf16(part[2] * factor[1], part[3] * factor[1]),
                        device::PackBf16(part[4] * factor[0], part[5] * factor[0]),
                        device::PackBf16(part[6] * factor[1], part[7] * factor[1]));
  }
  __syncwarp();
#pragma unroll
  for (uint32_t u = lane; u < 16 * kUnits; u += 32) {
    const uint32_t row = u / kUnits;
    const uint32_t unit = u % kUnits;
    const uint4 value =
        *reinterpret_cast<const uint4*>(own + unit / 8 * kBlockBytes + device::SwizzledOffset(row, unit % 8 * 16));
    if (static_cast<int32_t>(row) < rows) {
      *reinterpret_cast<uint4*>(global + row * row_stride + unit * 8) = value;
    }
  }
  __syncwarp();
}

}  // namespace ksa::cuda_attention::wgmma
