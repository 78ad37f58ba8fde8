// Forward of text queries on sm_90a. Each consumer warpgroup holds 64 queries: products of tile i+1's scores run while
// tile i's are weighted and summed, and the two warpgroups take turns at the tensor cores, so that the exponentials of
// one hide behind the products of the other.
#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/wgmma/tile.cuh"
#include "kernels/core/cuda.h"
#include "kernels/device/tensor_map.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

// The next item's queries come while this one's are in use, where there is room for both: not with keys of 192.
template <int kHeadDim, int kValueDim>
using ForwardShared = SharedMemory<kHeadDim, kValueDim, 1, kHeadDim <= 128 ? 2 : 1, 2, 2>;

static_assert(sizeof(ForwardShared<192, 128>) <= 227 * 1024, "all that a block of Hopper has");

// Of this thread's two rows: what exponentials are relative to, and the sum of this thread's exponentials.
struct RowState {
  float max[2];
  float sum[2];

  // Takes a tile's maxima in. True, for the whole warp, when earlier sums must be multiplied by factor[i]. Exponentials
  // may be as large as 2^8 before they are taken relative to a larger score: multiplying is then left out for nearly
  // all tiles, and fp32 sums and bf16 weights lose nothing by a common factor.
  template <int kRows>  // 2; deduced: what is not a template must be used, but images for older GPUs have no code
  __device__ __forceinline__ bool Raise(const float (&tile_max)[kRows], float (&factor)[kRows], float scale_log2) {
    constexpr float kSlackLog2 = 8.0F;
    const float slack = kSlackLog2 / scale_log2;
    if (!__any_sync(0xffffffff, tile_max[0] > max[0] + slack || tile_max[1] > max[1] + slack)) {
      return false;
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float raised = fmaxf(tile_max[i], max[i]);
      factor[i] = device::Exp2((max[i] - raised) * scale_log2);
      max[i] = raised;
      sum[i] *= factor[i];
    }
    return true;
  }
};

template <int kCount>
__device__ __forceinline__ void RowMaxima(const float (&scores)[kCount], float (&max)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float max0 = scores[2 * i];  // two chains of dependent instructions instead of one
    float max1 = scores[2 * i + 1];
#pragma unroll
    for (int j = 1; j < kCount / 4; ++j) {
      max0 = fmaxf(max0, scores[4 * j + 2 * i]);
      max1 = fmaxf(max1, scores[4 * j + 2 * i + 1]);
    }
    max[i] = fmaxf(max0, max1);
    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffff, max[i], 1));
    max[i] = fmaxf(max[i], __shfl_xor_sync(0xffffffff, max[i], 2));
  }
}

// Replaces scores by exponentials relative to state.max, and adds them up.
template <bool kFirst, int kCount>
__device__ __forceinline__ void Exponentials(float (&scores)[kCount], RowState& state, float scale_log2) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float offset = -state.max[i] * scale_log2;
    float sum0 = 0;
    float sum1 = 0;
#pragma unroll
    for (int j = 0; j < kCount / 4; ++j) {
      float& a = scores[4 * j + 2 * i];
      float& b = scores[4 * j + 2 * i + 1];
      a = device::Exp2(fmaf(a, scale_log2, offset));
      b = device::Exp2(fmaf(b, scale_log2, offset));
      sum0 += a;
      sum1 += b;
    }
    state.sum[i] = kFirst ? sum0 + sum1 : state.sum[i] + (sum0 + sum1);
  }
}

template <int kCount>
__device__ __forceinline__ void Rescale(float (&sums)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    sums[j] *= factor[j / 2 % 2];
  }
}

// What a consumer warpgroup knows of the item it works on.
struct ItemState {
  QueryTilePlan plan;
  RowKeys seen;
  RowKeys rows[2];  // of this thread
  RowState softmax;
};

// A consumer warpgroup: its place, and the slots it reads next. The products of an item's first scores run beside those
// of the item before, so that a block never waits for the latency of a single product. Functions come for whole tiles
// of keys and for halves: no product and no branch on its way while another one is under way.
template <int kHeadDim, int kValueDim>
struct Consumer {
  using Shared = ForwardShared<kHeadDim, kValueDim>;
  using Sums = float[kValueDim / 2];
  Shared& shared;
  float scale_log2;
  PingPongBarrier ping_pong;
  uint64_t queries;  // descriptors of slot 0
  uint64_t keys;
  uint64_t values;
  typename Shared::ItemRing item_slot;
  typename Shared::KeyRing key_slot;
  typename Shared::ValueRing value_slot;
  bool sums_half = false;    // of the tile whose weighted sum is next
  uint32_t sums_offset = 0;  // bytes, of its half

  __device__ __forceinline__ void AwaitItem() {
    device::Wait(&shared.queries_full[item_slot.slot()], item_slot.phase());
  }

  __device__ __forceinline__ void AwaitKeys() { device::Wait(&shared.keys_full[key_slot.slot()], key_slot.phase()); }

  __device__ __forceinline__ void AwaitValues() {
    device::Wait(&shared.values_full[value_slot.slot()], value_slot.phase());
  }

  // Scores of the next tile of keys, with the queries of item_slot.
  template <int kCount>
  __device__ __forceinline__ void StartScores(float (&scores)[kCount], const KeyTile& tile) {
    constexpr uint32_t kBytes = Shared::Tile::kBytes;
    IssueScores<kHeadDim>(scores,
                          device::Advance(queries, item_slot.slot() * kBytes),
                          device::Advance(keys, key_slot.slot() * kBytes + HalfOffset(tile)));
    device::WgmmaCommit();
  }

  template <int kCount>
  __device__ __forceinline__ void FinishScores(float (&scores)[kCount]) {
    device::Pin(scores);
    ReleaseSlot(&shared.keys_empty[key_slot.slot()]);
    key_slot.Next();
  }

  template <bool kHalf>
  __device__ __forceinline__ void StartSums(Sums& sums, const Weights& weights, bool accumulate) {
    IssueWeightedSum<kValueDim, kHalf ? kTileKeys / 32 : kTileKeys / 16>(
        sums,
        weights,
        device::Advance(values, value_slot.slot() * Shared::ValueTile::kBytes + sums_offset),
        accumulate);
    device::WgmmaCommit();
  }

  __device__ __forceinline__ void FinishSums(Sums& sums, Weights& weights) {
    device::Pin(sums);
    PinWeights(weights);
    ReleaseSlot(&shared.values_empty[value_slot.slot()]);
    value_slot.Next();
  }

  __device__ __forceinline__ void RememberTile(const KeyTile& tile) {
    sums_half = tile.half;
    sums_offset = HalfOffset(tile);
  }

  // An item's first weights from its first scores.
  template <int kCount>
  __device__ __forceinline__ void FirstWeights(float (&scores)[kCount],
                                               const KeyTile& tile,
                                               ItemState& item,
                                               Weights& weights) {
    if (tile.masked) {
      MaskScores(scores, item.rows, tile);
    }
    RowMaxima(scores, item.softmax.max);
    Exponentials<true>(scores, item.softmax, scale_log2);
    PackWeights(weights, scores);
    RememberTile(tile);
  }

  // Scores and weights of the block's first item's first tile.
  template <bool kHalf>
  __device__ __forceinline__ void Begin(const KeyTile& tile, ItemState& item, Weights& weights) {
    float scores[kHalf ? 32 : 64];
    AwaitKeys();
    ping_pong.Take();
    device::WgmmaFence();
    StartScores(scores, tile);
    device::WgmmaWait<0>();
    FinishScores(scores);
    ping_pong.Pass();
    FirstWeights(scores, tile, item, weights);
  }

  // Scores of `tile` beside the weighted sum of the tile before it; then its weights.
  template <bool kHalf, bool kSumsHalf>
  __device__ __forceinline__ void Step(
      const KeyTile& tile, bool accumulate, ItemState& item, Sums& sums, Weights& weights) {
    float scores[kHalf ? 32 : 64];
    AwaitValues();  // all waits come before the products, which then follow each other
    AwaitKeys();
    ping_pong.Take();
    device::WgmmaFence();
    StartScores(scores, tile);
    StartSums<kSumsHalf>(sums, weights, accumulate);
    device::WgmmaWait<1>();
    FinishScores(scores);
    ping_pong.Pass();
    if (tile.masked) {
      MaskScores(scores, item.rows, tile);
    }
    float max[2];
    float factor[2] = {1.0F, 1.0F};
    RowMaxima(scores, max);
    const bool raised = item.softmax.Raise(max, factor, scale_log2);
    Exponentials<false>(scores, item.softmax, scale_log2);
    HoldWaitFor(item.softmax.sum, &shared.queries_empty[0]);
    device::WgmmaWait<0>();
    FinishSums(sums, weights);
    if (raised) {
      Rescale(sums, factor);
    }
    PackWeights(weights, scores);
    RememberTile(tile);
  }

  // All tiles of an item but the first, up to the weights of the last one.
  __device__ __forceinline__ void Attend(ItemState& item, Sums& sums, Weights& weights) {
    const int32_t tiles = item.plan.tiles();
#pragma unroll 1
    for (int32_t t = 1; t < tiles; ++t) {
      const KeyTile tile = item.plan.Tile(t, item.seen);
      if (!tile.half && !sums_half) {
        Step<false, false>(tile, t > 1, item, sums, weights);
      } else if (!tile.half) {
        Step<false, true>(tile, t > 1, item, sums, weights);
      } else if (!sums_half) {
        Step<true, false>(tile, t > 1, item, sums, weights);
      } else {
        Step<true, true>(tile, t > 1, item, sums, weights);
      }
    }
  }

  // The weighted sum of the item's last tile beside the first scores of the next item, whose queries are there; `store`
  // stores the item's results. Leaves the next item's first weights.
  template <bool kHalf, typename Store>
  __device__ __forceinline__ void Switch(
      const KeyTile& tile, bool accumulate, const Store& store, ItemState& next, Sums& sums, Weights& weights) {
    float scores[kHalf ? 32 : 64];
    AwaitValues();
    AwaitKeys();
    ping_pong.Take();
    device::WgmmaFence();
    StartSums<false>(sums, weights, accumulate);
    StartScores(scores, tile);
    device::WgmmaWait<1>();
    FinishSums(sums, weights);
    ping_pong.Pass();
    store();
    device::WgmmaWait<0>();
    FinishScores(scores);
    FirstWeights(scores, tile, next, weights);
  }

  // The weighted sum of the block's last tile.
  __device__ __forceinline__ void End(bool accumulate, Sums& sums, Weights& weights) {
    AwaitValues();
    device::WgmmaFence();
    StartSums<false>(sums, weights, accumulate);
    device::WgmmaWait<0>();
    FinishSums(sums, weights);
    ping_pong.End();
  }

  // Makes the weights of half a tile those of a whole one.
  __device__ __forceinline__ void CompleteWeights(Weights& weights) {
    if (sums_half) {
#pragma unroll
      for (int step = 0; step < kTileKeys / 32; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          weights[step + kTileKeys / 32][i] = sums_offset != 0 ? weights[step][i] : 0;
          weights[step][i] = sums_offset != 0 ? 0 : weights[step][i];
        }
      }
      sums_offset = 0;
    }
  }
};

struct ForwardOutputs {
  BFloat16* out;
  float* lse;
};

// Divides, and stores out and lse of this warp's 16 rows.
template <int kValueDim>
__device__ __forceinline__ void StoreResults(const QueryProblem& problem,
                                             const QueryItem& item,
                                             const ForwardOutputs& outputs,
                                             const bool (&live)[2],
                                             float (&sums)[kValueDim / 2],
                                             RowState& state) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t first = item.first + (static_cast<int32_t>(threadIdx.x) - 128) / 32 * 16;
  const int32_t rows = problem.queries.end - first;
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
      for (int j = 0; j < kValueDim / 8; ++j) {
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
  StoreRows<kValueDim>(sums, factor, outputs.out + element * kValueDim, int64_t{problem.heads} * kValueDim, rows);
}

template <int kHeadDim, int kValueDim>
__device__ __forceinline__ void Consume(ForwardShared<kHeadDim, kValueDim>& shared,
                                        const QueryProblem& problem,
                                        const ForwardOutputs& outputs) {
  const uint32_t group = ConsumerGroup();
  const uint32_t row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + group * 64;
  Consumer<kHeadDim, kValueDim> consumer{.shared = shared,
                                         .scale_log2 = problem.scale_log2,
                                         .ping_pong = {group},
                                         .queries = DepthAlongColumns(shared.queries[0].q, group * 64),
                                         .keys = DepthAlongColumns(shared.keys[0]),
                                         .values = DepthAlongRows(shared.values[0])};
  const auto take_item = [&](ItemState& item) {
    consumer.AwaitItem();
    const uint32_t slot = consumer.item_slot.slot();
    item.plan = shared.plans[slot];
    item.seen = shared.seen[slot][group];
    item.rows[0] = shared.rows[slot][row];
    item.rows[1] = shared.rows[slot][row + 8];
  };
  float sums[kValueDim / 2];
  Weights weights;
  ItemState item;
  consumer.ping_pong.Begin();
  take_item(item);
  const KeyTile tile = item.plan.Tile(0, item.seen);
  if (tile.half) {
    consumer.template Begin<true>(tile, item, weights);
  } else {
    consumer.template Begin<false>(tile, item, weights);
  }
  int32_t index = ItemIndex(0, blockIdx.x, gridDim.x);  // there are no more blocks than items
#pragma unroll 1
  for (int32_t round = 1; index < problem.items; ++round) {
    consumer.Attend(item, sums, weights);
    consumer.CompleteWeights(weights);
    device::Arrive(&shared.queries_empty[consumer.item_slot.slot()]);
    const bool accumulate = item.plan.tiles() > 1;
    const auto store = [&] {
      const bool live[2] = {item.rows[0].text.size() > 0, item.rows[1].text.size() > 0};
      StoreResults<kValueDim>(problem, ItemAt(problem, index), outputs, live, sums, item.softmax);
    };
    const int32_t next_index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (next_index < problem.items) {
      ItemState next;
      consumer.item_slot.Next();
      take_item(next);
      const KeyTile first = next.plan.Tile(0, next.seen);
      if (first.half) {
        consumer.template Switch<true>(first, accumulate, store, next, sums, weights);
      } else {
        consumer.template Switch<false>(first, accumulate, store, next, sums, weights);
      }
      item = next;
    } else {
      consumer.End(accumulate, sums, weights);
      store();
    }
    index = next_index;
  }
}

template <int kHeadDim, int kValueDim>
__global__ void __launch_bounds__(kBlockThreads, 1) WgmmaForwardKernel(const __grid_constant__ QueryMaps maps,
                                                                       const __grid_constant__ QueryProblem problem,
                                                                       const ForwardOutputs outputs) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) uint8_t dynamic[];
  auto& shared = *reinterpret_cast<ForwardShared<kHeadDim, kValueDim>*>(dynamic);
  InitAllBarriers(shared);
  if (threadIdx.x < 128) {
    device::ShrinkRegisters<kProducerRegisters>();
    Produce<1>(shared, problem, maps);
  } else {
    device::GrowRegisters<kConsumerRegisters>();
    Consume(shared, problem, outputs);
  }
#endif
}

template <int kHeadDim, int kValueDim>
void Launch(const AttentionForwardArgs& args, const Stream& stream) {
  const QueryProblem problem = MakeQueryProblem(args.layout, args.window, args.q, args.k, ScaleOf(args));
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
               {dim3(blocks), dim3(kBlockThreads), sizeof(ForwardShared<kHeadDim, kValueDim>)},
               WgmmaForwardKernel<kHeadDim, kValueDim>,
               maps,
               problem,
               ForwardOutputs{args.out.As<BFloat16>(), args.lse.As<float>()});
}

}  // namespace

bool Supports(DType dtype, const HeadDims& dims, const Device& device) {
  const cuda::Capability capability = cuda::CapabilityOf(device);
  return dtype == DType::kBF16 && TakesHeads(dims) && capability.major == 9 && capability.compiled >= 90;
}

void ForwardText(const AttentionForwardArgs& args, const Stream& stream) {
  const int64_t dim = args.q.shape[2];
  if (dim == 64) {
    Launch<64, 64>(args, stream);
  } else if (dim == 128) {
    Launch<128, 128>(args, stream);
  } else {
    Launch<192, 128>(args, stream);
  }
}

}  // namespace ksa::cuda_attention::wgmma
