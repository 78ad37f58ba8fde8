// Gradients of text queries on sm_90a: the forward's tiles again, with three products a tile of keys:
//   scores = q·kᵀ,  weight gradients = dout·vᵀ,  dq += (weights ∘ (weight gradients - delta))·k
// Each consumer warpgroup holds 64 queries; while it computes exponentials the other one's products run.
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_wgmma_tile.cuh"
#include "kernels/core/cuda.h"
#include "kernels/device/tensor_map.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

struct BackwardQueriesRows {
  const float* lse;
  const float* delta;
  BFloat16* dq;
};

// Of this thread's two rows. A row that sees nothing has lse +infinity here: its weights become exactly 0.
struct RowInputs {
  float lse_log2[2];
  float delta[2];
};

template <int kHeadDim>
struct BackwardShared : SharedMemory<kHeadDim, 2, 1> {
  SharedTile<kHeadDim> result;
};

template <int kHeadDim>
struct QueriesConsumer {
  using Shared = BackwardShared<kHeadDim>;
  Shared& shared;
  float scale_log2;
  uint64_t queries;  // descriptors: of this warpgroup's rows, and of slot 0 of each ring
  uint64_t douts;
  uint64_t keys;
  uint64_t key_rows;  // keys with their rows as depth
  uint64_t values;
  RingIndex<kStages> slot;  // of the tile whose scores are next; dq is a tile behind

  __device__ __forceinline__ void StartScores(float (&scores)[64]) {
    IssueScores<kHeadDim>(scores, queries, device::Advance(keys, slot.slot() * Shared::Tile::kBytes));
    device::WgmmaCommit();
  }

  // Weight gradients of the tile whose scores are done; exponentials are computed while that product runs.
  __device__ __forceinline__ void Weigh(float (&scores)[64], const RowKeys* rows, int32_t t, const RowInputs& inputs) {
    float gradients[64];
    device::WgmmaFence();
    IssueScores<kHeadDim>(gradients, douts, device::Advance(values, slot.slot() * Shared::Tile::kBytes));
    device::WgmmaCommit();
    // Plan and rows stay in shared memory: registers are scarce here.
    if (shared.plans[0].NeedsMask(t)) {
      const RowKeys both[2] = {rows[0], rows[8]};
      MaskScores(scores, both, shared.plans[0].IsText(t), shared.plans[0].First(t));
    }
#pragma unroll
    for (int j = 0; j < 64; ++j) {
      scores[j] = Exp2(fmaf(scores[j], scale_log2, -inputs.lse_log2[j / 2 % 2]));
    }
    float some[16];
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      some[j] = scores[4 * j + 3];
    }
    HoldWaitFor(some, &shared.queries_empty[0]);
    device::WgmmaWait<0>();
    device::Pin(gradients);
    ReleaseSlot(&shared.values_empty[slot.slot()]);
    slot.Next();
#pragma unroll
    for (int j = 0; j < 64; ++j) {
      scores[j] *= gradients[j] - inputs.delta[j / 2 % 2];
    }
  }

  __device__ __forceinline__ void StartSums(float (&sums)[kHeadDim / 2],
                                            const uint32_t (&weights)[kTileKeys / 16][4],
                                            bool accumulate) {
    IssueWeightedSum<kHeadDim>(
        sums, weights, device::Advance(key_rows, (slot.uses - 1) % kStages * Shared::Tile::kBytes), accumulate);
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishSums(float (&sums)[kHeadDim / 2], uint32_t (&weights)[kTileKeys / 16][4]) {
    device::Pin(sums);
    PinWeights(weights);
    ReleaseSlot(&shared.keys_empty[(slot.uses - 1) % kStages]);
  }

  __device__ __forceinline__ void AwaitKeys() {
    device::Wait(&shared.keys_full[slot.slot()], slot.phase());
  }

  __device__ __forceinline__ void AwaitValues() {
    device::Wait(&shared.values_full[slot.slot()], slot.phase());
  }

  // All tiles of an item.
  __device__ __forceinline__ void Run(int32_t tiles,
                                      const RowKeys* rows,
                                      const RowInputs& inputs,
                                      float (&sums)[kHeadDim / 2]) {
    uint32_t weights[kTileKeys / 16][4];
    {
      float scores[64];
      AwaitKeys();
      AwaitValues();
      device::WgmmaFence();
      StartScores(scores);
      device::WgmmaWait<0>();
      device::Pin(scores);
      Weigh(scores, rows, 0, inputs);
      PackWeights(weights, scores);
    }
#pragma unroll 1
    for (int32_t t = 1; t < tiles; ++t) {
      float scores[64];  // in the loop, for registers: none to keep from one tile to the next
      AwaitKeys();
      AwaitValues();
      device::WgmmaFence();
      StartSums(sums, weights, t > 1);
      StartScores(scores);
      device::WgmmaWait<0>();  // frees the registers of the weights for the weight gradients
      device::Pin(scores);
      FinishSums(sums, weights);
      Weigh(scores, rows, t, inputs);
      PackWeights(weights, scores);
    }
    ReleaseSlot(&shared.queries_empty[0]);
    device::WgmmaFence();
    StartSums(sums, weights, tiles > 1);
    device::WgmmaWait<0>();
    FinishSums(sums, weights);
  }
};

template <int kHeadDim>
__device__ __forceinline__ void Consume(BackwardShared<kHeadDim>& shared,
                                        const QueryProblem& problem,
                                        const BackwardQueriesRows& data) {
  const uint32_t group = ConsumerGroup();
  const uint32_t row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + group * 64;
  QueriesConsumer<kHeadDim> consumer{.shared = shared,
                                     .scale_log2 = problem.scale_log2,
                                     .queries = DepthAlongColumns(shared.queries[0][0], group * 64),
                                     .douts = DepthAlongColumns(shared.queries[0][1], group * 64),
                                     .keys = DepthAlongColumns(shared.keys[0]),
                                     .key_rows = DepthAlongRows(shared.keys[0]),
                                     .values = DepthAlongColumns(shared.values[0])};
  uint32_t phase = 0;
#pragma unroll 1
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      break;
    }
    const QueryItem item = ItemAt(problem, index);
    const int64_t element = problem.layout.TextRow(item.sequence, item.first) * problem.heads + item.head;
    RowInputs inputs;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool inside = item.first + static_cast<int32_t>(row) + 8 * i < problem.layout.text_tokens;
      const int64_t at = element + int64_t{row + 8 * i} * problem.heads;
      inputs.lse_log2[i] = inside ? data.lse[at] * 1.44269504F : -INFINITY;
      inputs.delta[i] = inside ? data.delta[at] : 0.0F;
    }
    device::Wait(&shared.queries_full[0], phase);
    phase ^= 1;
    const RowKeys* rows = shared.rows[0] + row;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool live = rows[8 * i].text.size() > 0;
      inputs.lse_log2[i] = live ? inputs.lse_log2[i] : INFINITY;
      inputs.delta[i] = live ? inputs.delta[i] : 0.0F;
    }
    float sums[kHeadDim / 2];
    consumer.Run(shared.plans[0].tiles(), rows, inputs, sums);
    const auto first = static_cast<int32_t>((threadIdx.x - 128) / 32 * 16);  // of this warp
    const float factor[2] = {problem.scale, problem.scale};
    StoreRows(shared.result,
              sums,
              factor,
              data.dq + (element + int64_t{first} * problem.heads) * kHeadDim,
              int64_t{problem.heads} * kHeadDim,
              problem.layout.text_tokens - item.first - first);
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kBlockThreads, 1)
    WgmmaBackwardQueriesKernel(const __grid_constant__ QueryMaps maps,
                               const __grid_constant__ QueryProblem problem,
                               const BackwardQueriesRows data) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t dynamic[];
  auto& shared = *reinterpret_cast<BackwardShared<kHeadDim>*>(dynamic);
  InitBarriers(shared);
  if (threadIdx.x < 128) {
    device::ShrinkRegisters<40>();
    if (threadIdx.x < 32) {
      Produce(shared, problem, maps);
    }
  } else {
    device::GrowRegisters<232>();
    Consume(shared, problem, data);
  }
#endif
}

template <int kHeadDim>
void Launch(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const QueryProblem problem = MakeQueryProblem(args.layout, args.window, args.q, args.k);
  if (stream.dry || problem.items == 0) {
    return;
  }
  QueryMaps maps{};
  maps.q = cuda::MakeTensorMap(args.q, kTileRows);
  maps.dout = cuda::MakeTensorMap(args.dout, kTileRows);
  maps.k = cuda::MakeTensorMap(args.k, kTileKeys);
  maps.v = cuda::MakeTensorMap(args.v, kTileKeys);
  const auto blocks = static_cast<unsigned>(PersistentBlocks(problem, stream.device));
  cuda::Launch("WgmmaBackwardQueriesKernel",
               stream,
               {dim3(blocks), dim3(kBlockThreads), sizeof(BackwardShared<kHeadDim>)},
               WgmmaBackwardQueriesKernel<kHeadDim>,
               maps,
               problem,
               BackwardQueriesRows{args.lse.As<float>(), delta.As<float>(), args.dq.As<BFloat16>()});
}

}  // namespace

void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  if (args.q.shape[2] == 64) {
    Launch<64>(args, delta, stream);
  } else {
    Launch<128>(args, delta, stream);
  }
}

}  // namespace ksa::cuda_attention::wgmma
