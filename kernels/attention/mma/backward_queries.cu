// Backward with mma.sync, the kernel that holds q and dout, passes over k and v, and sums up dq.
#include <cstdint>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/mma/backward.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention::mma {
namespace {

template <int kDim, int kValueDim>
__global__ void __launch_bounds__(kThreads, 2) MmaBackwardQueriesKernel(BackwardArguments p) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<BackwardShared<kDim, kValueDim>*>(memory);
  using Tile = device::SwizzledTile<kDim>;
  using ValueTile = device::SwizzledTile<kValueDim>;
  const SummaryLayout& layout = p.problem.layout;
  const Range queries = layout.Queries();
  const QueryBlock block = QueryBlockAt(blockIdx.x, p.problem.heads, QueryTiles(queries.size(), kRows));
  const int32_t first = queries.begin + block.tile * kRows;
  const int head = block.head;
  const int32_t sequence = block.sequence;
  const int count = min(kRows, queries.end - first);
  const int64_t first_row = layout.TextRow(sequence, first);
  const int64_t pitch = int64_t{p.problem.heads} * kDim;
  const int64_t key_pitch = int64_t{p.problem.groups} * kDim;
  CopyPair(p.q, p.dout, first_row * pitch + int64_t{head} * kDim, pitch, count, shared.own);
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
        RowOf(layout, sequence, visit.part, visit.begin) * key_pitch + int64_t{head / p.problem.queries_per_kv} * kDim;
    CopyPair(p.k, p.v, from, key_pitch, visit.count, shared.other[tile % 2]);
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
  const uint32_t q = Tile{device::SharedAddress(shared.own.keys)}.PlaceA(row);
  const uint32_t dout = ValueTile{device::SharedAddress(shared.own.values)}.PlaceA(row);
  float dq[kDim / 8][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    device::WaitForCopies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before any more
    if (tile + 1 < tiles) {
      copy(tile + 1);
    }
    const Tile k{device::SharedAddress(shared.other[tile % 2].keys)};
    const ValueTile v{device::SharedAddress(shared.other[tile % 2].values)};
    float weight[kRows / 8][4] = {};
    float dweight[kRows / 8][4] = {};
    MultiplyTransposed<kDim>(q, k.PlaceTransposedB(), weight);
    MultiplyTransposed<kValueDim>(dout, v.PlaceTransposedB(), dweight);
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
                  Tile{device::SharedAddress(shared.own.keys)},
                  shared.own.keys,
                  row,
                  p.dq + (first_row + row) * pitch + int64_t{head} * kDim,
                  pitch,
                  count - row);
}

template <int kDim, int kValueDim>
void LaunchQueries(const BackwardArguments& p, const Stream& stream) {
  const SummaryLayout& layout = p.problem.layout;
  const dim3 grid = QueryGrid(p.problem.heads, QueryTiles(layout.Queries().size(), kRows), layout.sequences);
  cuda::Launch("MmaBackwardQueriesKernel",
               stream,
               {grid, dim3(kThreads), sizeof(BackwardShared<kDim, kValueDim>)},
               MmaBackwardQueriesKernel<kDim, kValueDim>,
               p);
}

}  // namespace

void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const BackwardArguments p = MakeArguments(args, delta);
  if (p.problem.dim == 64) {
    LaunchQueries<64, 64>(p, stream);
  } else if (p.problem.dim == 128) {
    LaunchQueries<128, 128>(p, stream);
  } else {
    LaunchQueries<192, 128>(p, stream);
  }
}

}  // namespace ksa::cuda_attention::mma
