// What the two backward kernels with mma.sync share. A block holds 64 rows of one side, 16 a warp, and passes over
// tiles of 64 rows of the other side, whose copies run one tile ahead. Scores are computed again from q, k and lse.
#pragma once

#include <cstdint>

#include "kernels/attention/mma/tile.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention::mma {

inline constexpr int kThreads = 128;
inline constexpr int kRows = 64;  // of a block, and of a tile of the other side

struct BackwardArguments {
  Problem problem;
  const BFloat16* q;
  const BFloat16* k;
  const BFloat16* v;
  const BFloat16* dout;
  const float* lse;
  const float* delta;
  BFloat16* dq;
  BFloat16* dk;
  BFloat16* dv;
  int32_t summary_tiles;  // key tiles of summaries of a sequence
};

template <int kDim>
using Rows = uint4[kRows * kDim / 8];

// Rows of k and v, or of q and dout: one as wide as keys, one as values.
template <int kDim, int kValueDim>
struct RowPair {
  Rows<kDim> keys;
  Rows<kValueDim> values;
};

template <int kDim, int kValueDim>
struct __align__(1024) BackwardShared {
  RowPair<kDim, kValueDim> own;       // q and dout, or k and v
  RowPair<kDim, kValueDim> other[2];  // [buffer]: k and v, or q and dout
  float lse[2][kRows];                // [buffer], of the queries passed over
  float delta[2][kRows];
  Range limits[2][kRows];  // [text or summaries], of the rows held
  SharedPlan plan;
};

static_assert(sizeof(BackwardShared<128, 128>) <= 99 * 1024, "a block of the smallest GPUs from 8.0 on has no more");

// c[n] += the product of 16 rows of kDim elements (fragments a at `rows`) and the rows of a tile, transposed.
template <int kDim>
__device__ void MultiplyTransposed(uint32_t rows, uint32_t tile, float (&c)[kRows / 8][4]) {
  using Tile = device::SwizzledTile<kDim>;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[4];
    Tile::LoadA(rows, step, a);
#pragma unroll
    for (int n = 0; n < kRows / 16; ++n) {
      uint32_t b[4];
      Tile::LoadTransposedB(tile, 16 * n, step, b);
      device::MultiplyAdd(c[2 * n], a, b[0], b[1]);
      device::MultiplyAdd(c[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// c += the product of weights (rounded to bf16) of 16 rows by the rows of a tile, and the tile.
template <int kDim>
__device__ void MultiplyWeights(const float (&weight)[kRows / 8][4], uint32_t tile, float (&c)[kDim / 8][4]) {
#pragma unroll
  for (int step = 0; step < kRows / 16; ++step) {
    uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&w)[4] = weight[2 * step + i / 2];
      a[i] = device::PackBFloat16(w[i % 2 * 2], w[i % 2 * 2 + 1]);
    }
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t b[4];
      device::SwizzledTile<kDim>::LoadB(tile, step, 16 * n, b);
      device::MultiplyAdd(c[2 * n], a, b[0], b[1]);
      device::MultiplyAdd(c[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// Weights of pairs that do not see each other become 0. Columns are rows begin, begin + 1, ... of the other side.
__device__ inline void Mask(const Range* limits, int row, int32_t begin, float (&weight)[kRows / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Range seen = limits[row + 8 * half + lane / 4];
    const int32_t first = begin + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int32_t column = first + 8 * n + i;
        float& w = weight[n][2 * half + i];
        w = column >= seen.begin && column < seen.end ? w : 0.0F;
      }
    }
  }
}

// Columns of values for columns of keys, of a number of elements that is a multiple of them. The same number where they
// are alike, so that it is computed once.
template <int kDim, int kValueDim>
[[nodiscard]] __device__ inline int64_t OfValues(int64_t of_keys) {
  return kDim == kValueDim ? of_keys : of_keys / kDim * kValueDim;
}

// `a` is as wide as keys, `b` as values. `from`, `pitch`: elements of `a` to the first row, and from row to row.
template <int kDim, int kValueDim>
__device__ void CopyPair(
    const BFloat16* a, const BFloat16* b, int64_t from, int64_t pitch, int count, const RowPair<kDim, kValueDim>& to) {
  using Tile = device::SwizzledTile<kDim>;
  using ValueTile = device::SwizzledTile<kValueDim>;
  CopyRows<kDim, kRows, kThreads>(a + from, pitch, count, Tile{device::SharedAddress(to.keys)});
  CopyRows<kValueDim, kRows, kThreads>(b + OfValues<kDim, kValueDim>(from),
                                       OfValues<kDim, kValueDim>(pitch),
                                       count,
                                       ValueTile{device::SharedAddress(to.values)});
}

__device__ inline int64_t RowOf(const SummaryLayout& layout, int32_t sequence, int part, int32_t index) {
  return part == 0 ? layout.TextRow(sequence, index) : layout.SummaryRow(sequence, index);
}

[[nodiscard]] inline unsigned Tiles(int64_t rows) {
  return static_cast<unsigned>((rows + kRows - 1) / kRows);
}

[[nodiscard]] inline BackwardArguments MakeArguments(const AttentionBackwardArgs& args, const TensorView& delta) {
  const bool key_summaries = args.k.rows() > args.layout.text_rows();
  return {.problem = MakeProblem(args),
          .q = args.q.As<BFloat16>(),
          .k = args.k.As<BFloat16>(),
          .v = args.v.As<BFloat16>(),
          .dout = args.dout.As<BFloat16>(),
          .lse = args.lse.As<float>(),
          .delta = delta.As<float>(),
          .dq = args.dq.As<BFloat16>(),
          .dk = args.dk.As<BFloat16>(),
          .dv = args.dv.As<BFloat16>(),
          .summary_tiles = key_summaries ? static_cast<int32_t>(Tiles(args.layout.live_summaries())) : 0};
}

}  // namespace ksa::cuda_attention::mma
