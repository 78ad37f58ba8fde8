// Forward of text queries on sm_90a. Each consumer warpgroup holds 64 queries: products of tile i+1's scores run while
// tile i's are weighted and summed, and the two warpgroups take turns at the tensor cores, so that the exponentials of
// one hide behind the products of the other.
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_wgmma_tile.cuh"
#include "kernels/core/cuda.h"
#include "kernels/device/tensor_map.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

constexpr int kQuerySlots = 2;  // queries of the next item come while results leave through the place of this one's

// Of this thread's two rows: what exponentials are relative to, and the sum of this thread's exponentials.
struct RowState {
  float max[2];
  float sum[2];
};

// Exponentials may be as large as 2^8 before they are taken relative to a larger score: multiplying what was summed
// before is then left out for nearly all tiles, and fp32 sums and bf16 weights lose nothing by a common factor.
constexpr float kSlackLog2 = 8.0F;

__device__ __forceinline__ void RowMaxima(const float (&scores)[64], float (&max)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float max0 = scores[2 * i];  // two chains of dependent instructions instead of one
    float max1 = scores[2 * i + 1];
#pragma unroll
    for (int j = 1; j < 16; ++j) {
      max0 = fmaxf(max0, scores[4 * j + 2 * i]);
      max1 = fmaxf(max1, scores[4 * j + 2 * i + 1]);
    }
    max[i] = fmaxf(max0, max1);
    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffff, max[i], 1));
    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffff, max[i], 2));
  }
}

// Replaces scores by exponentials relative to state.max, and adds them up.
template <bool kFirst>
__device__ __forceinline__ void Exponentials(float (&scores)[64], RowState& state, float scale_log2) {
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
    state.sum[i] = kFirst ? sum0 + sum1 : state.sum[i] + (sum0 + sum1);
  }
}

// Takes a tile's maxima into the state. True, for the whole warp, when earlier sums must be multiplied by factor[i].
__device__ __forceinline__ bool RaiseMaxima(RowState& state,
                                            const float (&max)[2],
                                            float (&factor)[2],
                                            float scale_log2) {
  const float slack = kSlackLog2 / scale_log2;
  if (!__any_sync(0xffffffff, max[0] > state.max[0] + slack || max[1] > state.max[1] + slack)) {
    return false;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float raised = fmaxf(max[i], state.max[i]);
    factor[i] = Exp2((state.max[i] - raised) * scale_log2);
    state.max[i] = raised;
    state.sum[i] *= factor[i];
  }
  return true;
}

template <int kCount>
__device__ __forceinline__ void Rescale(float (&sums)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    sums[j] *= factor[j / 2 % 2];
  }
}

// A consumer warpgroup: its place, and the slots it reads next. The products of an item's first scores run beside those
// of the item before, so that a block never waits for the latency of a single product.
template <int kHeadDim>
struct Consumer {
  using Shared = SharedMemory<kHeadDim, 1, kQuerySlots>;
  Shared& shared;
  float scale_log2;
  Turns turns;
  uint64_t queries;  // descriptors of slot 0
  uint64_t keys;
  uint64_t values;
  RingIndex<kQuerySlots> item_slot;
  RingIndex<kStages> key_slot;
  RingIndex<kStages> value_slot;

  __device__ __forceinline__ void AwaitItem() {
    device::Wait(&shared.queries_full[item_slot.slot()], item_slot.phase());
  }

  __device__ __forceinline__ void AwaitKeys() { device::Wait(&shared.keys_full[key_slot.slot()], key_slot.phase()); }

  __device__ __forceinline__ void AwaitValues() {
    device::Wait(&shared.values_full[value_slot.slot()], value_slot.phase());
  }

  // Scores of the next tile of keys, with the queries of item_slot.
  __device__ __forceinline__ void StartScores(float (&scores)[64]) {
    constexpr uint32_t kBytes = Shared::Tile::kBytes;
    IssueScores<kHeadDim>(
        scores, device::Advance(queries, item_slot.slot() * kBytes), device::Advance(keys, key_slot.slot() * kBytes));
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishScores(float (&scores)[64]) {
    device::Pin(scores);
    ReleaseSlot(&shared.keys_empty[key_slot.slot()]);
    key_slot.Next();
  }

  __device__ __forceinline__ void StartSums(float (&sums)[kHeadDim / 2],
                                            const uint32_t (&weights)[kTileKeys / 16][4],
                                            bool accumulate) {
    IssueWeightedSum<kHeadDim>(
        sums, weights, device::Advance(values, value_slot.slot() * Shared::Tile::kBytes), accumulate);
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishSums(float (&sums)[kHeadDim / 2], uint32_t (&weights)[kTileKeys / 16][4]) {
    device::Pin(sums);
    PinWeights(weights);
    ReleaseSlot(&shared.values_empty[value_slot.slot()]);
    value_slot.Next();
  }

  // The first item's first scores.
  __device__ __forceinline__ void Begin(float (&scores)[64]) {
    turns.Begin();
    AwaitItem();
    AwaitKeys();
    turns.Take();
    device::WgmmaFence();
    StartScores(scores);
    FinishFirstScores(scores);
    turns.Pass();
  }

  __device__ __forceinline__ void FinishFirstScores(float (&scores)[64]) {
    device::WgmmaWait<0>();
    FinishScores(scores);
  }

  // The tiles of the item at item_slot, whose first scores are there, up to the weights of the last one. Sums are
  // not yet divided by the rows' sums of exponentials.
  __device__ __forceinline__ void Attend(float (&scores)[64],
                                         const TilePlan& plan,
                                         const RowKeys (&rows)[2],
                                         float (&sums)[kHeadDim / 2],
                                         uint32_t (&weights)[kTileKeys / 16][4],
                                         RowState& state) {
    const int32_t tiles = plan.tiles();
    if (plan.NeedsMask(0)) {
      MaskScores(scores, rows, true, plan.First(0));
    }
    RowMaxima(scores, state.max);
    Exponentials<true>(scores, state, scale_log2);
    PackWeights(weights, scores);
#pragma unroll 1
    for (int32_t t = 1; t < tiles; ++t) {
      AwaitValues();  // of the tile before: all waits come before the products, which then follow each other
      AwaitKeys();
      turns.Take();
      device::WgmmaFence();
      StartScores(scores);
      StartSums(sums, weights, t > 1);
      device::WgmmaWait<1>();
      FinishScores(scores);
      turns.Pass();
      if (plan.NeedsMask(t)) {
        MaskScores(scores, rows, plan.IsText(t), plan.First(t));
      }
      float max[2];
      float factor[2] = {1.0F, 1.0F};
      RowMaxima(scores, max);
      const bool raised = RaiseMaxima(state, max, factor, scale_log2);
      Exponentials<false>(scores, state, scale_log2);
      HoldWaitFor(state.sum, &shared.queries_empty[0]);
      device::WgmmaWait<0>();
      FinishSums(sums, weights);
      if (raised) {
        Rescale(sums, factor);
      }
      PackWeights(weights, scores);
    }
  }

  // The last tile's weighted sum; the next item's first scores are left under way.
  __device__ __forceinline__ void DrainAndStartNext(float (&scores)[64],
                                                    float (&sums)[kHeadDim / 2],
                                                    uint32_t (&weights)[kTileKeys / 16][4],
                                                    bool accumulate) {
    AwaitValues();
    item_slot.Next();
    AwaitItem();
    AwaitKeys();
    turns.Take();
    device::WgmmaFence();
    StartSums(sums, weights, accumulate);
    StartScores(scores);
    device::WgmmaWait<1>();
    FinishSums(sums, weights);
    turns.Pass();
  }

  __device__ __forceinline__ void Drain(float (&sums)[kHeadDim / 2],
                                        uint32_t (&weights)[kTileKeys / 16][4],
                                        bool accumulate) {
    AwaitValues();
    device::WgmmaFence();
    StartSums(sums, weights, accumulate);
    device::WgmmaWait<0>();
    FinishSums(sums, weights);
    turns.End();
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
__device__ __forceinline__ void Consume(SharedMemory<kHeadDim, 1, kQuerySlots>& shared,
                                        const QueryProblem& problem,
                                        const ForwardOutputs& outputs) {
  const uint32_t group = ConsumerGroup();
  const uint32_t row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + group * 64;
  Consumer<kHeadDim> consumer{.shared = shared,
                              .scale_log2 = problem.scale_log2,
                              .turns = {group},
                              .queries = DepthAlongColumns(shared.queries[0][0], group * 64),
                              .keys = DepthAlongColumns(shared.keys[0]),
                              .values = DepthAlongRows(shared.values[0])};
  float scores[64];
  consumer.Begin(scores);
  int32_t index = ItemIndex(0, blockIdx.x, gridDim.x);  // there are no more blocks than items
#pragma unroll 1
  for (int32_t round = 1; index < problem.items; ++round) {
    const uint32_t slot = consumer.item_slot.slot();
    const TilePlan plan = shared.plans[slot];
    const RowKeys rows[2] = {shared.rows[slot][row], shared.rows[slot][row + 8]};
    float sums[kHeadDim / 2];
    uint32_t weights[kTileKeys / 16][4];
    RowState state;
    consumer.Attend(scores, plan, rows, sums, weights, state);
    const bool live[2] = {rows[0].text.size() > 0, rows[1].text.size() > 0};
    const auto store = [&] {
      StoreResults(shared.queries[slot][0], problem, ItemAt(problem, index), outputs, live, sums, state);
      device::FenceProxyAsync();  // before the copy engine brings other queries to the place of the results
      __syncwarp();
      ReleaseSlot(&shared.queries_empty[slot]);
    };
    const int32_t next = ItemIndex(round, blockIdx.x, gridDim.x);
    if (next < problem.items) {
      consumer.DrainAndStartNext(scores, sums, weights, plan.tiles() > 1);
      store();
      consumer.FinishFirstScores(scores);
    } else {
      consumer.Drain(sums, weights, plan.tiles() > 1);
      store();
    }
    index = next;
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kBlockThreads, 1) WgmmaForwardKernel(const __grid_constant__ QueryMaps maps,
                                                                       const __grid_constant__ QueryProblem problem,
                                                                       const ForwardOutputs outputs) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t dynamic[];
  auto& shared = *reinterpret_cast<SharedMemory<kHeadDim, 1, kQuerySlots>*>(dynamic);
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
               {dim3(blocks), dim3(kBlockThreads), sizeof(SharedMemory<kHeadDim, 1, kQuerySlots>)},
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
