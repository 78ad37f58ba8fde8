// Backward with mma.sync, the kernel that holds k and v, passes over q and dout of every query head of its key/value
// head, text and summaries, and sums up dk and dv.
#include <cstdint>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/mma/backward.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention::mma {
namespace {

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

// `at`: elements of dk to the tile.
template <int kDim, int kValueDim>
__device__ void StoreKeyGradients(const BackwardArguments& p,
                                  BackwardShared<kDim, kValueDim>& shared,
                                  int row,
                                  int64_t at,
                                  int count,
                                  float (&dk)[kDim / 8][4],
                                  float (&dv)[kValueDim / 8][4]) {
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
        if (n < kValueDim / 8) {
          dv[n][i] = seen ? dv[n][i] : 0.0F;
        }
      }
    }
  }
  const int64_t pitch = int64_t{p.problem.groups} * kDim;
  const device::SwizzledTile<kDim> tile{device::SharedAddress(shared.own.keys)};
  const float scale = p.problem.scale;
  StoreRows<kDim>(dk, scale, scale, tile, shared.own.keys, row, p.dk + at + row * pitch, pitch, count - row);
  if constexpr (kDim != kValueDim) {
    __syncthreads();  // a warp's rows of a narrower tile lie where others have theirs of the wider one
  }
  StoreRows<kValueDim>(dv,
                       1.0F,
                       1.0F,
                       device::SwizzledTile<kValueDim>{device::SharedAddress(shared.own.keys)},
                       shared.own.keys,
                       row,
                       p.dv + OfValues<kDim, kValueDim>(at) + row * OfValues<kDim, kValueDim>(pitch),
                       OfValues<kDim, kValueDim>(pitch),
                       count - row);
}

template <int kDim, int kValueDim>
__global__ void __launch_bounds__(kThreads, 2) MmaBackwardKeysKernel(BackwardArguments p) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<BackwardShared<kDim, kValueDim>*>(memory);
  using Tile = device::SwizzledTile<kDim>;
  using ValueTile = device::SwizzledTile<kValueDim>;
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
  CopyPair(p.k, p.v, at, key_pitch, count, shared.own);
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
    const int64_t head = int64_t{group} * p.problem.queries_per_kv + turn.member;
    CopyPair(p.q, p.dout, row * pitch + head * kDim, pitch, visit.count, shared.other[buffer]);
    if (thread < kRows) {
      const int64_t query = (row + min(thread, visit.count - 1)) * p.problem.heads + head;
      device::CopyWordAsync(device::SharedAddress(&shared.lse[buffer][thread]), p.lse + query);
      device::CopyWordAsync(device::SharedAddress(&shared.delta[buffer][thread]), p.delta + query);
    }
    device::CommitCopies();
  };
  const int turns = tiles * p.problem.queries_per_kv;
  Turn now;
  Turn next;
  if (turns > 0) {
    copy(next, 0);
  }

  const int row = thread / 32 * 16;
  const uint32_t k = Tile{device::SharedAddress(shared.own.keys)}.PlaceA(row);
  const uint32_t v = ValueTile{device::SharedAddress(shared.own.values)}.PlaceA(row);
  float dk[kDim / 8][4] = {};
  float dv[kValueDim / 8][4] = {};
  for (int turn = 0; turn < turns; ++turn) {
    const int buffer = turn % 2;
    device::WaitForCopies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before any more
    if (turn + 1 < turns) {
      next.Next(tiles);
      copy(next, 1 - buffer);
    }
    const Tile q{device::SharedAddress(shared.other[buffer].keys)};
    const ValueTile dout{device::SharedAddress(shared.other[buffer].values)};
    float weight[kRows / 8][4] = {};
    MultiplyTransposed<kDim>(k, q.PlaceTransposedB(), weight);
    Weigh(shared.lse[buffer], p.problem.scale_log2, weight);
    const Visit visit = plan.At<kRows>(now.tile);
    if (visit.masked) {
      Mask(shared.limits[visit.part], row, visit.begin, weight);
    }
    MultiplyWeights<kValueDim>(weight, dout.PlaceB(), dv);
    float dweight[kRows / 8][4] = {};
    MultiplyTransposed<kValueDim>(v, dout.PlaceTransposedB(), dweight);
    WeighGradients(weight, shared.delta[buffer], dweight);
    MultiplyWeights<kDim>(dweight, q.PlaceB(), dk);
    now.Next(tiles);
  }
  device::WaitForCopies<0>();
  __syncthreads();
  StoreKeyGradients(p, shared, row, at, count, dk, dv);
}

template <int kDim, int kValueDim>
void LaunchKeys(const BackwardArguments& p, const Stream& stream) {
  const SummaryLayout& layout = p.problem.layout;
  const dim3 grid((static_cast<unsigned>(p.summary_tiles) + Tiles(layout.text_tokens)) *
                  static_cast<unsigned>(layout.sequences * p.problem.groups));
  cuda::Launch("MmaBackwardKeysKernel",
               stream,
               {grid, dim3(kThreads), sizeof(BackwardShared<kDim, kValueDim>)},
               MmaBackwardKeysKernel<kDim, kValueDim>,
               p);
}

}  // namespace

void BackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const BackwardArguments p = MakeArguments(args, delta);
  if (p.problem.dim == 64) {
    LaunchKeys<64, 64>(p, stream);
  } else if (p.problem.dim == 128) {
    LaunchKeys<128, 128>(p, stream);
  } else {
    LaunchKeys<192, 128>(p, stream);
  }
}

}  // namespace ksa::cuda_attention::mma
