// Forward of the text queries with mma.sync. A block holds 128 queries of one head, 32 a warp, and passes over tiles of
// 64 keys whose copies run one tile ahead; scores, softmax and output stay in registers.
#include <cstdint>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/mma/tile.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention::mma {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 128;  // queries of a block
constexpr int kKeys = 64;   // of a tile
constexpr float kSlack = 8.0F;
constexpr float kNothing = -1e30F;  // a largest score before there is any; finite, so that differences are

struct Arguments {
  Problem problem;
  const BFloat16* q;
  const BFloat16* k;
  const BFloat16* v;
  BFloat16* out;
  float* lse;
};

// kDim: columns of a head of queries and keys; kValueDim: of values.
template <int kDim, int kValueDim>
struct __align__(1024) Shared {
  uint4 q[kRows * kDim / 8];  // later the output
  uint4 k[2][kKeys * kDim / 8];
  uint4 v[2][kKeys * kValueDim / 8];
  Range limits[2][kRows];
  SharedPlan plan;
};

static_assert(sizeof(Shared<128, 128>) <= 99 * 1024, "a block of the smallest GPUs from 8.0 on has no more");

// A warp's 32 queries: two fragments of 16.
template <int kValueDim>
struct State {
  float out[2][kValueDim / 8][4];
  float max[2][2];  // raw score that weights are relative to, by fragment and half
  float sum[2][2];  // of this lane's columns
};

template <int kDim>
__device__ void Scores(const device::SwizzledTile<kDim>& q,
                       const device::SwizzledTile<kDim>& k,
                       int row,
                       float (&score)[2][kKeys / 8][4]) {
  const uint32_t queries = q.PlaceA(row);
  const uint32_t keys = k.PlaceTransposedB();
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[2][4];
    q.LoadA(queries, step, a[0]);
    q.LoadA(queries + 16 * q.kRowBytes, step, a[1]);
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t b[4];
      k.LoadTransposedB(keys, 16 * n, step, b);
#pragma unroll
      for (int f = 0; f < 2; ++f) {
        device::MultiplyAdd(score[f][2 * n], a[f], b[0], b[1]);
        device::MultiplyAdd(score[f][2 * n + 1], a[f], b[2], b[3]);
      }
    }
  }
}

// Scores of keys that a query does not see become -infinity.
__device__ inline void Mask(const Range* limits, int row, int32_t begin, float (&score)[2][kKeys / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int f = 0; f < 2; ++f) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Range seen = limits[row + 16 * f + 8 * half + lane / 4];
      const int32_t first = begin + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int32_t key = first + 8 * n + i;
          float& s = score[f][n][2 * half + i];
          s = key >= seen.begin && key < seen.end ? s : -INFINITY;
        }
      }
    }
  }
}

// The largest scores of this lane's rows, the tile's included.
template <int kValueDim>
__device__ void LargestScores(const float (&score)[2][kKeys / 8][4],
                              const State<kValueDim>& state,
                              float (&largest)[2][2]) {
#pragma unroll
  for (int f = 0; f < 2; ++f) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float next = state.max[f][half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        next = fmaxf(next, fmaxf(score[f][n][2 * half], score[f][n][2 * half + 1]));
      }
      next = fmaxf(next, __shfl_xor_sync(0xffffffffU, next, 1));
      largest[f][half] = fmaxf(next, __shfl_xor_sync(0xffffffffU, next, 2));
    }
  }
}

// Makes the weights of rows whose `largest` is too far above relative to it: what was summed up before shrinks.
template <int kValueDim>
__device__ void Rescale(float scale_log2, const float (&largest)[2][2], State<kValueDim>& state) {
#pragma unroll
  for (int f = 0; f < 2; ++f) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float grown = (largest[f][half] - state.max[f][half]) * scale_log2;
      const float shrink = grown > kSlack ? device::Exp2(-grown) : 1.0F;
      state.max[f][half] = grown > kSlack ? largest[f][half] : state.max[f][half];
      state.sum[f][half] *= shrink;
#pragma unroll
      for (int n = 0; n < kValueDim / 8; ++n) {
        state.out[f][n][2 * half] *= shrink;
        state.out[f][n][2 * half + 1] *= shrink;
      }
    }
  }
}

// Scores become weights. They are relative to the largest score, or to an earlier one that was not exceeded by much:
// weights up to 2^kSlack lose nothing, and the output need not be rescaled for every tile. Each row decides for itself,
// so that its result does not depend on its neighbours.
template <int kValueDim>
__device__ void Weigh(float scale_log2, float (&score)[2][kKeys / 8][4], State<kValueDim>& state) {
  float largest[2][2];
  LargestScores(score, state, largest);
  bool exceeded = false;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    exceeded = exceeded || (largest[i / 2][i % 2] - state.max[i / 2][i % 2]) * scale_log2 > kSlack;
  }
  if (__any_sync(0xffffffffU, exceeded)) {
    Rescale(scale_log2, largest, state);
  }
#pragma unroll
  for (int f = 0; f < 2; ++f) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float shift = state.max[f][half] * scale_log2;
      float sum = 0.0F;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& s = score[f][n][2 * half + i];
          s = device::Exp2(fmaf(s, scale_log2, -shift));
          sum += s;
        }
      }
      state.sum[f][half] += sum;
    }
  }
}

template <int kValueDim>
__device__ void AddValues(const float (&weight)[2][kKeys / 8][4],
                          const device::SwizzledTile<kValueDim>& v,
                          State<kValueDim>& state) {
  const uint32_t values = v.PlaceB();
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    uint32_t a[2][4];
#pragma unroll
    for (int f = 0; f < 2; ++f) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&w)[4] = weight[f][2 * step + i / 2];
        a[f][i] = device::PackBFloat16(w[i % 2 * 2], w[i % 2 * 2 + 1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kValueDim / 16; ++n) {
      uint32_t b[4];
      v.LoadB(values, step, 16 * n, b);
#pragma unroll
      for (int f = 0; f < 2; ++f) {
        device::MultiplyAdd(state.out[f][2 * n], a[f], b[0], b[1]);
        device::MultiplyAdd(state.out[f][2 * n + 1], a[f], b[2], b[3]);
      }
    }
  }
}

// Writes output and lse of a warp's queries; `tile` is free to be overwritten at its rows.
template <int kDim, int kValueDim>
__device__ void Finish(const Arguments& p,
                       const State<kValueDim>& state,
                       Shared<kDim, kValueDim>& shared,
                       int row,
                       int64_t first_row,
                       int count,
                       int head) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t pitch = int64_t{p.problem.heads} * kValueDim;
  const device::SwizzledTile<kValueDim> tile{device::SharedAddress(shared.q)};
#pragma unroll
  for (int f = 0; f < 2; ++f) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = state.sum[f][half];
      sum += __shfl_xor_sync(0xffffffffU, sum, 1);
      sum += __shfl_xor_sync(0xffffffffU, sum, 2);
      const int r = row + 16 * f + 8 * half + lane / 4;
      const bool sees = shared.limits[0][r].size() + shared.limits[1][r].size() > 0;
      factor[half] = sees ? 1.0F / sum : 0.0F;
      if (lane % 4 == 0 && r < count) {
        p.lse[(first_row + r) * p.problem.heads + head] =
            sees ? state.max[f][half] * p.problem.scale + logf(sum) : -INFINITY;
      }
    }
    StoreRows<kValueDim>(state.out[f],
                         factor[0],
                         factor[1],
                         tile,
                         shared.q,
                         row + 16 * f,
                         p.out + (first_row + row + 16 * f) * pitch + int64_t{head} * kValueDim,
                         pitch,
                         count - row - 16 * f);
  }
}

template <int kDim, int kValueDim>
__global__ void __launch_bounds__(kThreads, 2) MmaForwardKernel(Arguments p) {
  extern __shared__ __align__(1024) char memory[];
  auto& shared = *reinterpret_cast<Shared<kDim, kValueDim>*>(memory);
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
  const int64_t query_pitch = int64_t{p.problem.heads} * kDim;
  const int64_t key_pitch = int64_t{p.problem.groups} * kDim;
  const int64_t value_pitch = int64_t{p.problem.groups} * kValueDim;
  const int64_t group = int64_t{head / p.problem.queries_per_kv} * kDim;
  const int64_t value_group = int64_t{head / p.problem.queries_per_kv} * kValueDim;
  const Tile q{device::SharedAddress(shared.q)};
  CopyRows<kDim, kRows, kThreads>(p.q + first_row * query_pitch + int64_t{head} * kDim, query_pitch, count, q);

  const int thread = static_cast<int>(threadIdx.x);
  Limits own = {};
  if (thread < count) {
    own.parts[0] = layout.TextKeys(p.problem.window, sequence, first + thread);
    own.parts[1] = layout.SummaryKeys(p.problem.window, sequence, first + thread);
  }
  shared.limits[0][thread] = own.parts[0];
  shared.limits[1][thread] = own.parts[1];
  MakePlan(own, kRows, shared.plan);
  const Plan& plan = shared.plan.plan;
  const int tiles = plan.Tiles<kKeys>();

  const auto copy = [&](int tile) {
    const Visit visit = plan.At<kKeys>(tile);
    const int64_t row =
        visit.part == 0 ? layout.TextRow(sequence, visit.begin) : layout.SummaryRow(sequence, visit.begin);
    CopyRows<kDim, kKeys, kThreads>(
        p.k + (row * key_pitch + group), key_pitch, visit.count, Tile{device::SharedAddress(shared.k[tile % 2])});
    CopyRows<kValueDim, kKeys, kThreads>(p.v + (row * value_pitch + value_group),
                                         value_pitch,
                                         visit.count,
                                         ValueTile{device::SharedAddress(shared.v[tile % 2])});
  };
  if (tiles > 0) {
    copy(0);
  }
  device::CommitCopies();

  const int row = thread / 32 * 32;
  State<kValueDim> state = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    state.max[i / 2][i % 2] = kNothing;
  }
  for (int tile = 0; tile < tiles; ++tile) {
    device::WaitForCopies<0>();
    __syncthreads();  // the tile is here, and nobody reads the one before any more
    if (tile + 1 < tiles) {
      copy(tile + 1);
      device::CommitCopies();
    }
    float score[2][kKeys / 8][4] = {};
    Scores(q, Tile{device::SharedAddress(shared.k[tile % 2])}, row, score);
    const Visit visit = plan.At<kKeys>(tile);
    if (visit.masked) {
      Mask(shared.limits[visit.part], row, visit.begin, score);
    }
    Weigh(p.problem.scale_log2, score, state);
    AddValues(score, ValueTile{device::SharedAddress(shared.v[tile % 2])}, state);
  }
  device::WaitForCopies<0>();
  __syncthreads();
  Finish(p, state, shared, row, first_row, count, head);
}

template <int kDim, int kValueDim>
void LaunchForward(const AttentionForwardArgs& args, const Stream& stream) {
  const SummaryLayout& layout = args.layout;
  const dim3 grid = QueryGrid(args.q.shape[1], QueryTiles(layout.Queries().size(), kRows), layout.sequences);
  cuda::Launch("MmaForwardKernel",
               stream,
               {grid, dim3(kThreads), sizeof(Shared<kDim, kValueDim>)},
               MmaForwardKernel<kDim, kValueDim>,
               Arguments{.problem = MakeProblem(args),
                         .q = args.q.As<BFloat16>(),
                         .k = args.k.As<BFloat16>(),
                         .v = args.v.As<BFloat16>(),
                         .out = args.out.As<BFloat16>(),
                         .lse = args.lse.As<float>()});
}

// The most shared memory that a block can have; of a GPU that does not exist, where memory is planned, all that Hopper
// has.
int64_t SharedBytesOfBlock(const Device& device) {
  int bytes = 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.ordinal) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return int64_t{227} * 1024;
  }
  return bytes;
}

}  // namespace

bool Supports(DType dtype, const HeadDims& dims, const Device& device) {
  if (dtype != DType::kBF16) {
    return false;
  }
  if (dims == HeadDims{192, 128}) {
    return SharedBytesOfBlock(device) >= static_cast<int64_t>(sizeof(Shared<192, 128>));
  }
  return dims.value == dims.key && (dims.key == 64 || dims.key == 128);
}

void ForwardText(const AttentionForwardArgs& args, const Stream& stream) {
  const int64_t dim = args.q.shape[2];
  if (dim == 64) {
    LaunchForward<64, 64>(args, stream);
  } else if (dim == 128) {
    LaunchForward<128, 128>(args, stream);
  } else {
    LaunchForward<192, 128>(args, stream);
  }
}

}  // namespace ksa::cuda_attention::mma
