// Forward of text queries on sm_90a. Each consumer warpgroup holds 64 queries: products of tile i+1's scores run while
// tile i's are weighted and summed, and the two warpgroups take turns at the tensor cores, so that the exponentials of
// one hide behind the products of the other.
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_wgmma_tile.cuh"
#include "kernels/core/cuda.h"
#include "kernels/device/tensor_map.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

// Of this thread's two rows: the largest score so far, and the sum of this thread's exponentials.
struct RowState {
  float max[2];
  float sum[2];
};

// Replaces scores by exponentials relative to the largest score so far; factor[i] takes earlier sums to that scale.
template <bool kFirst>
__device__ __forceinline__ void Softmax(float (&scores)[64], RowState& state, float (&factor)[2], float scale_log2) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float max0 = scores[2 * i];  // two chains of dependent instructions instead of one
    float max1 = scores[2 * i + 1];
#pragma unroll
    for (int j = 1; j < 16; ++j) {
      max0 = fmaxf(max0, scores[4 * j + 2 * i]);
      max1 = fmaxf(max1, scores[4 * j + 2 * i + 1]);
    }
    float max = fmaxf(max0, max1);
    max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, 1));
    max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, 2));
    if constexpr (!kFirst) {
      max = fmaxf(max, state.max[i]);
      factor[i] = Exp2((state.max[i] - max) * scale_log2);
    }
    state.max[i] = max;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float offset = -state.max[i] * scale_log2;
    float sum0 = 0;
    float sum1 = 0;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      float& a = scores[4 * j + 2 * i];
      float& b = scores[4 * j + 2 * i + 1];
      a = Exp2(fmaf(a, scale_log2, offset));
      b = Exp2(fmaf(b, scale_log2, offset));
      sum0 += a;
      sum1 += b;
    }
    state.sum[i] = kFirst ? sum0 + sum1 : fmaf(state.sum[i], factor[i], sum0 + sum1);
  }
}

// Multiplying by exactly 1, which is what most tiles ask for, is left out.
template <int kCount>
__device__ __forceinline__ void Rescale(float (&sums)[kCount], const float (&factor)[2]) {
  if (__any_sync(0xffffffff, factor[0] != 1.0F || factor[1] != 1.0F)) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      sums[j] *= factor[j / 2 % 2];
    }
  }
}

// The two warpgroups issue their products in turns.
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

// A consumer warpgroup: its place, and the tensors' slots it reads next.
template <int kHeadDim>
struct Consumer {
  using Shared = SharedMemory<kHeadDim, 1>;
  Shared& shared;
  float scale_log2;
  Turns turns;
  uint64_t queries;  // descriptors
  uint64_t keys;
  uint64_t values;
  RingIndex key_slot;
  RingIndex value_slot;

  __device__ __forceinline__ void AwaitKeys() { device::Wait(&shared.keys_full[key_slot.stage()], key_slot.phase()); }

  __device__ __forceinline__ void AwaitValues() {
    device::Wait(&shared.values_full[value_slot.stage()], value_slot.phase());
  }

  __device__ __forceinline__ void StartScores(float (&scores)[64]) {
    IssueScores<kHeadDim>(scores, queries, device::Advance(keys, key_slot.stage() * Shared::Tile::kBytes));
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishScores(bool last) {
    ReleaseSlot(&shared.keys_empty[key_slot.stage()]);
    ++key_slot.tiles;
    if (last) {
      ReleaseSlot(&shared.queries_empty);
    }
  }

  __device__ __forceinline__ void StartSums(float (&sums)[kHeadDim / 2],
                                            const uint32_t (&weights)[kTileKeys / 16][4],
                                            bool accumulate) {
    IssueWeightedSum<kHeadDim>(
        sums, weights, device::Advance(values, value_slot.stage() * Shared::Tile::kBytes), accumulate);
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishSums(float (&sums)[kHeadDim / 2], uint32_t (&weights)[kTileKeys / 16][4]) {
    device::WgmmaWait<0>();
    device::Pin(sums);
    PinWeights(weights);
    ReleaseSlot(&shared.values_empty[value_slot.stage()]);
    ++value_slot.tiles;
  }

  // All tiles of an item that has some: sums are not yet divided by the rows' sums of exponentials.
  __device__ __forceinline__ void Attend(const TilePlan& plan,
                                         const RowKeys (&rows)[2],
                                         float (&sums)[kHeadDim / 2],
                                         RowState& state) {
    const int32_t tiles = plan.tiles();
    float scores[64];
    uint32_t weights[kTileKeys / 16][4];
    float factor[2];
    AwaitKeys();
    turns.Take();
    device::WgmmaFence();
    StartScores(scores);
    turns.Pass();
    device::WgmmaWait<0>();
    device::Pin(scores);
    FinishScores(tiles == 1);
    if (plan.NeedsMask(0)) {
      MaskScores(scores, rows, true, plan.First(0));
    }
    Softmax<true>(scores, state, factor, scale_log2);
    PackWeights(weights, scores);
#pragma unroll 1
    for (int32_t t = 1; t < tiles; ++t) {
      AwaitValues();  // of the tile before: all waits come before the products, which then follow each other
      AwaitKeys();
      turns.Take();
      device::WgmmaFence();
      StartScores(scores);
      StartSums(sums, weights, t > 1);
      turns.Pass();
      device::WgmmaWait<1>();
      device::Pin(scores);
      FinishScores(t + 1 == tiles);
      if (plan.NeedsMask(t)) {
        MaskScores(scores, rows, plan.IsText(t), plan.First(t));
      }
      Softmax<false>(scores, state, factor, scale_log2);
      HoldWaitFor(state.sum, &shared.queries_empty);
      FinishSums(sums, weights);
      Rescale(sums, factor);
      PackWeights(weights, scores);
    }
    AwaitValues();
    device::WgmmaFence();
    StartSums(sums, weights, tiles > 1);
    FinishSums(sums, weights);
  }
};

struct ForwardOutputs {
  BFloat16* out;
  float* lse;
};

// Divides, and stores out and lse of this warp's 16 rows.
template <int kHeadDim>
__device__ __forceinline__ void StoreResults(SharedTile<kHeadDim>& stage,
                                             const QueryProblem& problem,
                                             const QueryItem& item,
                                             const ForwardOutputs& outputs,
                                             const bool (&live)[2],
                                             float (&sums)[kHeadDim / 2],
                                             RowState& state) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t first = item.first + (static_cast<int32_t>(threadIdx.x) - 128) / 32 * 16;
  const int32_t rows = problem.layout.text_tokens - first;
  const int64_t element = problem.layout.TextRow(item.sequence, first) * problem.heads + item.head;
  float factor[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = state.sum[i];
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    factor[i] = 1.0F / sum;
    if (!live[i]) {
      factor[i] = 0;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        sums[4 * j + 2 * i] = 0;
        sums[4 * j + 2 * i + 1] = 0;
      }
    }
    const int32_t row = lane / 4 + 8 * i;
    if (lane % 4 == 0 && row < rows) {
      outputs.lse[element + int64_t{row} * problem.heads] =
          live[i] ? fmaf(state.max[i], problem.scale, logf(sum)) : -INFINITY;
    }
  }
  StoreRows(stage, sums, factor, outputs.out + element * kHeadDim, int64_t{problem.heads} * kHeadDim, rows);
}

template <int kHeadDim>
__device__ __forceinline__ void Consume(SharedMemory<kHeadDim, 1>& shared,
                                        const QueryProblem& problem,
                                        const ForwardOutputs& outputs) {
  const uint32_t group = threadIdx.x / 128 - 1;
  const uint32_t row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + group * 64;
  Consumer<kHeadDim> consumer{.shared = shared,
                              .scale_log2 = problem.scale_log2,
                              .turns = {group},
                              .queries = DepthAlongColumns(shared.queries[0], group * 64),
                              .keys = DepthAlongColumns(shared.keys[0]),
                              .values = DepthAlongRows(shared.values[0])};
  consumer.turns.Begin();
  uint32_t phase = 0;
#pragma unroll 1
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      break;
    }
    device::Wait(&shared.queries_full, phase);
    phase ^= 1;
    const TilePlan plan = shared.plan;
    const RowKeys rows[2] = {shared.rows[row], shared.rows[row + 8]};
    const bool live[2] = {rows[0].text.size() > 0, rows[1].text.size() > 0};
    float sums[kHeadDim / 2];
    RowState state;
    if (plan.tiles() > 0) {
      consumer.Attend(plan, rows, sums, state);
    } else {
      ReleaseSlot(&shared.queries_empty);
    }
    StoreResults(shared.result, problem, ItemAt(problem, index), outputs, live, sums, state);
  }
  consumer.turns.End();
}

template <int kHeadDim>
__global__ void __launch_bounds__(kBlockThreads, 1) WgmmaForwardKernel(const __grid_constant__ QueryMaps maps,
                                                                       const __grid_constant__ QueryProblem problem,
                                                                       const ForwardOutputs outputs) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t dynamic[];
  auto& shared = *reinterpret_cast<SharedMemory<kHeadDim, 1>*>(dynamic);
  InitBarriers(shared);
  if (threadIdx.x < 128) {
    device::ShrinkRegisters<40>();
    if (threadIdx.x < 32) {
      Produce(shared, problem, maps);
    }
  } else {
    device::GrowRegisters<232>();
    Consume(shared, problem, outputs);
  }
#endif
}

template <int kHeadDim>
void Launch(const AttentionForwardArgs& args, const Stream& stream) {
  const QueryProblem problem = MakeQueryProblem(args.layout, args.window, args.q, args.k);
  if (stream.dry || problem.items == 0) {
    return;
  }
  QueryMaps maps{};
  maps.q = cuda::MakeTensorMap(args.q, kTileRows);
  maps.k = cuda::MakeTensorMap(args.k, kTileKeys);
  maps.v = cuda::MakeTensorMap(args.v, kTileKeys);
  const auto blocks = static_cast<unsigned>(PersistentBlocks(problem, stream.device));
  cuda::Launch("WgmmaForwardKernel",
               stream,
               {dim3(blocks), dim3(kBlockThreads), sizeof(SharedMemory<kHeadDim, 1>)},
               WgmmaForwardKernel<kHeadDim>,
               maps,
               problem,
               ForwardOutputs{args.out.As<BFloat16>(), args.lse.As<float>()});
}

}  // namespace

bool Supports(DType dtype, int64_t head_dim, const Device& device) {
  if (dtype != DType::kBF16 || (head_dim != 64 && head_dim != 128)) {
    return false;
  }
  int major = 9;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.ordinal) != cudaSuccess) {
    (void)cudaGetLastError();
    return true;  // memory is planned where there is no GPU: for the one this kernel is made for
  }
  return major == 9 && ImageHasWarpgroupProducts(reinterpret_cast<const void*>(&WgmmaForwardKernel<128>));
}

void ForwardText(const AttentionForwardArgs& args, const Stream& stream) {
  if (args.q.shape[2] == 64) {
    Launch<64>(args, stream);
  } else {
    Launch<128>(args, stream);
  }
}

}  // namespace ksa::cuda_attention::wgmma
