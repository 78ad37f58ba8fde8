// Backward with mma.sync, in two kernels of the same shape. A block holds 64 rows of one side, 16 a warp, and passes
// over tiles of 64 rows of the other side, whose copies run one tile ahead. Scores are computed again from q, k and
// lse.
//   queries: holds q and dout, passes over k and v, sums up dq
//   keys:    holds k and v, passes over q and dout of every query head of its key/value head, sums up dk and dv
#include <cstdint>

#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_mma.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention::mma {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 64;  // of a block, and of a tile of the other side

struct Arguments {
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

template <int kDim>
struct __align__(1024) Shared {
  Rows<kDim> own[2];       // q and dout, or k and v
  Rows<kDim> other[2][2];  // [buffer]: k and v, or q and dout
  float lse[2][kRows];     // [buffer], of the queries passed over
  float delta[2][kRows];
  Range limits[2][kRows];  // [text or summaries], of the rows held
  SharedPlan plan;
};

static_assert(sizeof(Shared<128>) <= 99 * 1024, "a block of the smallest GPUs from 8.0 on has no more");

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

template <int kDim>
__device__ void CopyPair(
    const BFloat16* a, const BFloat16* b, int64_t from, int64_t pitch, int count, const Rows<kDim> (&to)[2]) {
  using Tile = device::SwizzledTile<kDim>;
  CopyRows<kDim, kRows, kThreads>(a + from, pitch, count, Tile{device::SharedAddress(to[0])});
  CopyRows<kDim, kRows, kThreads>(b + from, pitch, count, Tile{device::SharedAddress(to[1])});
}

__device__ inline int64_t RowOf(const SummaryLayout& layout, int32_t sequence, int part, int32_t index) {
  return part == 0 ? layout.TextRow(sequence, index) : layout.SummaryRow(sequence, index);
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, 2) MmaBackwardQueriesKernel(Arguments p) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<Shared<kDim>*>(memory);
  using Tile = device::SwizzledTile<kDim>;
  const SummaryLayout& layout = p.problem.layout;
  const int32_t first = static_cast<int32_t>(gridDim.y - 1 - blockIdx.y) * kRows;  // the longest rows first
  const int head = static_cast<int>(blockIdx.x);
  const auto sequence = static_cast<int32_t>(blockIdx.z);
  const int count = min(kRows, layout.text_tokens - first);
  const int64_t first_row = layout.TextRow(sequence, first);
  const int64_t pitch = int64_t{p.problem.heads} * kDim;
  const int64_t key_pitch = int64_t{p.problem.groups} * kDim;
  CopyPair<kDim>(p.q, p.dout, first_row * pitch + int64_t{head} * kDim, pitch, count, shared.own);
  device::CommitCopies();

  const int thread = static_cast<int>(threadIdx.x);
  Limits own = {};
  if (thread < count) {
    own.parts[0] = layout.TextKeys(p.problem.window, sequence, first + thread);
    own.parts[1] = layout.SummaryKeys(p.problem.window, sequence, first + thread);
  }
  if (thread < kRows) {
    shared.limits[0][thread] = own.parts[0];
    shared.limits[1][thread] = own.parts[1];
  }
  MakePlan(own, kRows, shared.plan);
  const Plan& plan = shared.plan.plan;
  const int tiles = plan.Tiles<kRows>();
  const auto copy = [&](int tile) {
    const Visit visit = plan.At<kRows>(tile);
    const int64_t from =
        RowOf(layout, sequence, visit.part, visit.begin) * key_pitch + int64_t{head / p.problem.share} * kDim;
    CopyPair<kDim>(p.k, p.v, from, key_pitch, visit.count, shared.other[tile % 2]);
    device::CommitCopies();
  };
  if (tiles > 0) {
    copy(0);
  }

  const int row = thread / 32 * 16;
  float lse[2];
  float delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row + 8 * half + thread % 32 / 4;
    const int64_t at = (first_row + min(r, count - 1)) * p.problem.heads + head;
    const bool sees = shared.limits[0][r].size() + shared.limits[1][r].size() > 0;
    lse[half] = sees ? p.lse[at] * kLog2E : INFINITY;  // all weights 0
    delta[half] = p.delta[at];
  }
  const uint32_t q = Tile{device::SharedAddress(shared.own[0])}.PlaceA(row);
  const uint32_t dout = Tile{device::SharedAddress(shared.own[1])}.PlaceA(row);
  float dq[kDim / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    device::WaitForCopies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before any more
    if (tile + 1 < tiles) {
      copy(tile + 1);
    }
    const Tile k{device::SharedAddress(shared.other[tile % 2][0])};
    const Tile v{device::SharedAddress(shared.other[tile % 2][1])};
    float weight[kRows / 8][4] = {};
    float dweight[kRows / 8][4] = {};
    MultiplyTransposed<kDim>(q, k.PlaceTransposedB(), weight);
    MultiplyTransposed<kDim>(dout, v.PlaceTransposedB(), dweight);
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        weight[n][i] = device::Exp2(fmaf(weight[n][i], p.problem.scale_log2, -lse[i / 2]));
      }
    }
    const Visit visit = plan.At<kRows>(tile);
    if (visit.masked) {
      Mask(shared.limits[visit.part], row, visit.begin, weight);
    }
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        weight[n][i] *= dweight[n][i] - delta[i / 2];
      }
    }
    MultiplyWeights<kDim>(weight, k.PlaceB(), dq);
  }
  device::WaitForCopies<0>();
  __syncthreads();
  StoreRows<kDim>(dq,
                  p.problem.scale,
                  p.problem.scale,
                  Tile{device::SharedAddress(shared.own[0])},
                  shared.own[0],
                  row,
                  p.dq + (first_row + row) * pitch + int64_t{head} * kDim,
                  pitch,
                  count - row);
}

// A tile of queries of one query head of the group.
struct Turn {
  int member = 0;
  int tile = 0;

  __device__ void Next(int tiles) {
    ++tile;
    if (tile == tiles) {
      tile = 0;
      ++member;
    }
  }
};

// Weights of a tile from its scores; columns are queries.
__device__ inline void Weigh(const float* lse, float scale_log2, float (&weight)[kRows / 8][4]) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kRows / 8; ++n) {
    const float2 shift = *reinterpret_cast<const float2*>(lse + 8 * n + column);
    weight[n][0] = device::Exp2(fmaf(weight[n][0], scale_log2, -kLog2E * shift.x));
    weight[n][1] = device::Exp2(fmaf(weight[n][1], scale_log2, -kLog2E * shift.y));
    weight[n][2] = device::Exp2(fmaf(weight[n][2], scale_log2, -kLog2E * shift.x));
    weight[n][3] = device::Exp2(fmaf(weight[n][3], scale_log2, -kLog2E * shift.y));
  }
}

// dweight becomes the gradient of the scores, without the factor scale.
__device__ inline void WeighGradients(const float (&weight)[kRows / 8][4],
                                      const float* delta,
                                      float (&dweight)[kRows / 8][4]) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kRows / 8; ++n) {
    const float2 shift = *reinterpret_cast<const float2*>(delta + 8 * n + column);
    dweight[n][0] = weight[n][0] * (dweight[n][0] - shift.x);
    dweight[n][1] = weight[n][1] * (dweight[n][1] - shift.y);
    dweight[n][2] = weight[n][2] * (dweight[n][2] - shift.x);
    dweight[n][3] = weight[n][3] * (dweight[n][3] - shift.y);
  }
}

template <int kDim>
__device__ void StoreKeyGradients(const Arguments& p,
                                  Shared<kDim>& shared,
                                  int row,
                                  int64_t at,
                                  int count,
                                  float (&dk)[kDim / 8][4],
                                  float (&dv)[kDim / 8][4]) {
  // Keys that nobody sees took part in tiles without a mask.
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row + 8 * half + lane / 4;
    const bool seen = shared.limits[0][r].size() + shared.limits[1][r].size() > 0;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        dk[n][i] = seen ? dk[n][i] : 0.0F;
        dv[n][i] = seen ? dv[n][i] : 0.0F;
      }
    }
  }
  const int64_t pitch = int64_t{p.problem.groups} * kDim;
  const device::SwizzledTile<kDim> tile{device::SharedAddress(shared.own[0])};
  const float scale = p.problem.scale;
  StoreRows<kDim>(dk, scale, scale, tile, shared.own[0], row, p.dk + at + row * pitch, pitch, count - row);
  StoreRows<kDim>(dv, 1.0F, 1.0F, tile, shared.own[0], row, p.dv + at + row * pitch, pitch, count - row);
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, 2) MmaBackwardKeysKernel(Arguments p) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<Shared<kDim>*>(memory);
  using Tile = device::SwizzledTile<kDim>;
  const SummaryLayout& layout = p.problem.layout;
  // Tiles of summaries come first, those of all heads: the most queries see them. A unit is a head of a sequence.
  const int units = layout.sequences * p.problem.groups;
  const int block = static_cast<int>(blockIdx.x);
  const int text_block = block - p.summary_tiles * units;
  const int part = text_block < 0 ? 1 : 0;
  const int text_tiles = (layout.text_tokens + kRows - 1) / kRows;
  const int unit = part == 1 ? block % units : text_block / text_tiles;
  const int32_t first = (part == 1 ? block / units : text_block % text_tiles) * kRows;
  const int group = unit % p.problem.groups;
  const int32_t sequence = unit / p.problem.groups;
  const int count = min(kRows, (part == 1 ? layout.live_summaries() : layout.text_tokens) - first);
  const int64_t key_pitch = int64_t{p.problem.groups} * kDim;
  const int64_t pitch = int64_t{p.problem.heads} * kDim;
  const int64_t at = RowOf(layout, sequence, part, first) * key_pitch + int64_t{group} * kDim;
  CopyPair<kDim>(p.k, p.v, at, key_pitch, count, shared.own);
  device::CommitCopies();

  const int thread = static_cast<int>(threadIdx.x);
  Limits own = {};
  if (thread < count) {
    const int32_t key = first + thread;
    own.parts[0] = part == 1 ? layout.TextReadersOfSummary(p.problem.window, sequence, key)
                             : layout.TextReadersOfText(p.problem.window, sequence, key);
    if (p.problem.query_summaries) {
      own.parts[1] = part == 1 ? layout.SummaryReadersOfSummary(key) : layout.SummaryReadersOfText(sequence, key);
    }
  }
  if (thread < kRows) {
    shared.limits[0][thread] = own.parts[0];
    shared.limits[1][thread] = own.parts[1];
  }
  MakePlan(own, kRows, shared.plan);
  const Plan& plan = shared.plan.plan;
  const int tiles = plan.Tiles<kRows>();
  const auto copy = [&](const Turn& turn, int buffer) {
    const Visit visit = plan.At<kRows>(turn.tile);
    const int64_t row = RowOf(layout, sequence, visit.part, visit.begin);
    const int64_t head = int64_t{group} * p.problem.share + turn.member;
    CopyPair<kDim>(p.q, p.dout, row * pitch + head * kDim, pitch, visit.count, shared.other[buffer]);
    if (thread < kRows) {
      const int64_t query = (row + min(thread, visit.count - 1)) * p.problem.heads + head;
      device::CopyWordAsync(device::SharedAddress(&shared.lse[buffer][thread]), p.lse + query);
      device::CopyWordAsync(device::SharedAddress(&shared.delta[buffer][thread]), p.delta + query);
    }
    device::CommitCopies();
  };
  const int turns = tiles * p.problem.share;
  Turn now;
  Turn next;
  if (turns > 0) {
    copy(next, 0);
  }

  const int row = thread / 32 * 16;
  const uint32_t k = Tile{device::SharedAddress(shared.own[0])}.PlaceA(row);
  const uint32_t v = Tile{device::SharedAddress(shared.own[1])}.PlaceA(row);
  float dk[kDim / 8][4] = {};
  float dv[kDim / 8][4] = {};
  for (int turn = 0; turn < turns; ++turn) {
    const int buffer = turn % 2;
    device::WaitForCopies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before any more
    if (turn + 1 < turns) {
      next.Next(tiles);
      copy(next, 1 - buffer);
    }
    const Tile q{device::SharedAddress(shared.other[buffer][0])};
    const Tile dout{device::SharedAddress(shared.other[buffer][1])};
    float weight[kRows / 8][4] = {};
    MultiplyTransposed<kDim>(k, q.PlaceTransposedB(), weight);
    Weigh(shared.lse[buffer], p.problem.scale_log2, weight);
    const Visit visit = plan.At<kRows>(now.tile);
    if (visit.masked) {
      Mask(shared.limits[visit.part], row, visit.begin, weight);
    }
    MultiplyWeights<kDim>(weight, dout.PlaceB(), dv);
    float dweight[kRows / 8][4] = {};
    MultiplyTransposed<kDim>(v, dout.PlaceTransposedB(), dweight);
    WeighGradients(weight, shared.delta[buffer], dweight);
    MultiplyWeights<kDim>(dweight, q.PlaceB(), dk);
    now.Next(tiles);
  }
  device::WaitForCopies<0>();
  __syncthreads();
  StoreKeyGradients(p, shared, row, at, count, dk, dv);
}

unsigned Tiles(int64_t rows) {
  return static_cast<unsigned>((rows + kRows - 1) / kRows);
}

Arguments MakeArguments(const AttentionBackwardArgs& args, const TensorView& delta) {
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

template <int kDim>
void LaunchQueries(const Arguments& p, const Stream& stream) {
  const SummaryLayout& layout = p.problem.layout;
  const dim3 grid(
      static_cast<unsigned>(p.problem.heads), Tiles(layout.text_tokens), static_cast<unsigned>(layout.sequences));
  cuda::Launch("MmaBackwardQueriesKernel",
               stream,
               {grid, dim3(kThreads), sizeof(Shared<kDim>)},
               MmaBackwardQueriesKernel<kDim>,
               p);
}

template <int kDim>
void LaunchKeys(const Arguments& p, const Stream& stream) {
  const SummaryLayout& layout = p.problem.layout;
  const dim3 grid((static_cast<unsigned>(p.summary_tiles) + Tiles(layout.text_tokens)) *
                  static_cast<unsigned>(layout.sequences * p.problem.groups));
  cuda::Launch(
      "MmaBackwardKeysKernel", stream, {grid, dim3(kThreads), sizeof(Shared<kDim>)}, MmaBackwardKeysKernel<kDim>, p);
}

}  // namespace

void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const Arguments p = MakeArguments(args, delta);
  if (p.problem.dim == 64) {
    LaunchQueries<64>(p, stream);
  } else {
    LaunchQueries<128>(p, stream);
  }
}

void BackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const Arguments p = MakeArguments(args, delta);
  if (p.problem.dim == 64) {
    LaunchKeys<64>(p, stream);
  } else {
    LaunchKeys<128>(p, stream);
  }
}

}  // namespace ksa::cuda_attention::mma
