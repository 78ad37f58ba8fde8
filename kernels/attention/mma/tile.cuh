// What the sm_80 kernels of attention share: tiles of rows in shared memory, and the plan of the tiles to visit.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/attention/device.cuh"
#include "kernels/core/dtype.h"
#include "kernels/device/mma.cuh"

namespace ksa::cuda_attention::mma {

// Blocks of a kernel that holds queries: a tile of one head of one sequence, heads first, then tiles, the longest rows
// before the others, then sequences. All along x: a grid has no more than 65,535 blocks along y and z, which tiles
// exceed from 4M tokens on.
struct QueryBlock {
  int head;
  int32_t tile;
  int32_t sequence;
};

[[nodiscard]] KSA_HOST_DEVICE inline int32_t QueryTiles(int32_t queries, int32_t rows) {
  return (queries + rows - 1) / rows;
}

[[nodiscard]] inline dim3 QueryGrid(int64_t heads, int64_t tiles, int64_t sequences) {
  return dim3(static_cast<unsigned>(heads * tiles * sequences));
}

[[nodiscard]] __device__ inline QueryBlock QueryBlockAt(uint32_t block, int32_t heads, int32_t tiles) {
  const uint32_t place = block / static_cast<uint32_t>(heads);  // tile and sequence
  const auto rank = static_cast<int32_t>(place % static_cast<uint32_t>(tiles));
  return {.head = static_cast<int>(block % static_cast<uint32_t>(heads)),
          .tile = tiles - 1 - rank,
          .sequence = static_cast<int32_t>(place / static_cast<uint32_t>(tiles))};
}

// Limits of the rows of a tile within one range of rows of the other side (text, or summaries): what any of them
// sees, and what all of them see.
struct KeyRange {
  Range any;
  Range all;

  // Tiles of kRows rows that cover `any`, from its begin on.
  template <int kRows>
  [[nodiscard]] __device__ int Tiles() const {
    return (any.size() + kRows - 1) / kRows;
  }
};

// Rows of one range that a tile visits together.
struct Visit {
  int part;       // 0: text, 1: summaries
  int32_t begin;  // index in the range
  int32_t count;  // real rows
  bool masked;    // not every row of the tile sees all of them
};

struct Plan {
  KeyRange parts[2];

  template <int kRows>
  [[nodiscard]] __device__ int Tiles() const {
    return parts[0].Tiles<kRows>() + parts[1].Tiles<kRows>();
  }

  template <int kRows>
  [[nodiscard]] __device__ Visit At(int tile) const {
    const int text = parts[0].Tiles<kRows>();
    const int part = tile < text ? 0 : 1;
    const KeyRange& range = parts[part];
    const int32_t begin = range.any.begin + (part == 0 ? tile : tile - text) * kRows;
    const int32_t rest = range.any.end - begin;
    return {.part = part,
            .begin = begin,
            .count = rest < kRows ? rest : kRows,
            .masked = begin < range.all.begin || begin + kRows > range.all.end};
  }
};

// What one row sees in the two ranges.
struct Limits {
  Range parts[2];

  [[nodiscard]] __device__ bool sees() const { return parts[0].size() + parts[1].size() > 0; }
};

// In shared memory, where the plan takes no registers.
struct SharedPlan {
  Plan plan;
  int32_t limits[4][8];  // of each warp
};

// Makes the plan of a tile whose rows' limits are `own`, one a thread of the first `rows` threads of the block. Rows
// that see nothing count for nothing: their results are not used. The whole block takes part.
__device__ inline void MakePlan(const Limits& own, int rows, SharedPlan& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  const bool counts = thread < rows && own.sees();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const Range range = own.parts[i / 4];
    const bool some = counts && range.size() > 0;
    // The least begin and the greatest end of those who see some; the greatest begin and the least end of all.
    int32_t value = i % 4 == 0 ? (some ? range.begin : INT_MAX) : 0;
    value = i % 4 == 1 ? (some ? -range.end : INT_MAX) : value;
    value = i % 4 == 2 ? (counts ? -range.begin : INT_MAX) : value;
    value = i % 4 == 3 ? (counts ? range.end : INT_MAX) : value;
    value = __reduce_min_sync(0xffffffffU, value);
    if (thread % 32 == 0) {
      shared.limits[thread / 32][i] = value;
    }
  }
  __syncthreads();
  if (thread < 2) {
    const int warps = (rows + 31) / 32;
    int32_t least[4] = {INT_MAX, INT_MAX, INT_MAX, INT_MAX};
    for (int warp = 0; warp < warps; ++warp) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        least[i] = min(least[i], shared.limits[warp][4 * thread + i]);
      }
    }
    const bool any = least[0] != INT_MAX;
    shared.plan.parts[thread].any = any ? Range{least[0], -least[1]} : Range{0, 0};
    shared.plan.parts[thread].all = any ? Range{-least[2], least[3]} : Range{0, 0};
  }
  __syncthreads();
}

// Queues copies of rows first, first + 1, ... into a tile of kRows rows; behind `count` the last one is repeated.
// `pitch` elements lie between rows. kThreads threads take part.
template <int kDim, int kRows, int kThreads>
__device__ void CopyRows(const BFloat16* first, int64_t pitch, int count, const device::SwizzledTile<kDim>& tile) {
  constexpr int kPieces = kDim / 8;
  if constexpr (kThreads % kPieces != 0) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kThreads) {
      const int row = i / kPieces;
      const int piece = i % kPieces;
      device::CopyAsync(tile.Piece(row, piece), first + min(row, count - 1) * pitch + piece * 8);
    }
    return;
  }
  constexpr int kStep = kThreads / kPieces;  // rows in one go; a multiple of 8 where they divide
  static_assert(kThreads % kPieces != 0 || (kStep % 8 == 0 && kRows % kStep == 0));
  const int piece = static_cast<int>(threadIdx.x) % kPieces;
  const int start = static_cast<int>(threadIdx.x) / kPieces;
  uint32_t shared = tile.Piece(start, piece);
#pragma unroll
  for (int row = start; row < kRows; row += kStep) {
    device::CopyAsync(shared, first + min(row, count - 1) * pitch + piece * 8);
    shared += kStep * kDim * 2;
  }
}

// Writes rows of a tile that a warp holds as accumulators c[n][4], columns 8n.., to shared memory and from there, in
// whole rows, to first, first + pitch, ...; only the first `count` of its 16 rows. `row` is where in `tile` the warp
// has 16 rows to itself.
template <int kDim>
__device__ void StoreRows(const float (&c)[kDim / 8][4],
                          float factor_low,
                          float factor_high,
                          const device::SwizzledTile<kDim>& tile,
                          const void* tile_memory,
                          int row,
                          BFloat16* first,
                          int64_t pitch,
                          int count) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  auto* bytes = static_cast<char*>(const_cast<void*>(tile_memory));
  const auto place = [&](int r, int piece) { return bytes + (tile.Piece(row + r, piece) - tile.base); };
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
    const int at = lane % 4 * 4;
    *reinterpret_cast<uint32_t*>(place(lane / 4, n) + at) =
        device::PackBFloat16(c[n][0] * factor_low, c[n][1] * factor_low);
    *reinterpret_cast<uint32_t*>(place(lane / 4 + 8, n) + at) =
        device::PackBFloat16(c[n][2] * factor_high, c[n][3] * factor_high);
  }
  __syncwarp();
  constexpr int kPieces = kDim / 8;
  if constexpr (32 % kPieces != 0) {
    for (int i = lane; i < min(16, count) * kPieces; i += 32) {
      *reinterpret_cast<uint4*>(first + i / kPieces * pitch + i % kPieces * 8) =
          *reinterpret_cast<const uint4*>(place(i / kPieces, i % kPieces));
    }
    return;
  }
  constexpr int kStep = 32 % kPieces == 0 ? 32 / kPieces : 1;
#pragma unroll
  for (int r = lane / kPieces; r < 16; r += kStep) {
    if (r < count) {
      *reinterpret_cast<uint4*>(first + r * pitch + lane % kPieces * 8) =
          *reinterpret_cast<const uint4*>(place(r, lane % kPieces));
    }
  }
}

}  // namespace ksa::cuda_attention::mma
