// The Hopper kernel that holds keys: dk and dv of text and summary keys.
//
// Persistent blocks of a producer warpgroup and two consumer warpgroups of 64 keys each. Warps of the producer: one
// takes work items, which a kernel before has planned, one feeds the copy engine (with the next item's keys and values
// as soon as the last products with this one's are done), two bring the numbers that queries carry along (lse, delta).
// Per block of 64 queries a consumer computes, transposed so that the products that it feeds on take them from
// registers:
//   S = K Q^T, dP = V dO^T, P = exp(scale · S - lse), dS = P (dP - delta), dV += P dO, dK += dS Q
// It issues the next block's S and dP before this block's dK, so that the tensor cores have work while it
// exponentiates. Masks are limits of a key, looked at in blocks that some of the keys see in part; blocks that none of
// a consumer's keys see, it skips.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/wgmma/keys_consumer.cuh"
#include "kernels/attention/wgmma/keys_plan.cuh"
#include "kernels/attention/wgmma/keys_shared.cuh"
#include "kernels/attention/wgmma/keys_wide_consumer.cuh"
#include "kernels/attention/wgmma/keys_work.h"
#include "kernels/core/cuda.h"
#include "kernels/core/tensor.h"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/tensor_map.cuh"
#include "kernels/device/tma.cuh"
#include "kernels/device/wgmma.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

constexpr int kThreads = 128 * (1 + kConsumers);
// Not used where sm_90a is not compiled for: numbers of arriving threads and warps, and registers, together what the
// kernel is launched with (168 for each of three warpgroups).
[[maybe_unused]] constexpr int kConsumerThreads = 128 * kConsumers;
[[maybe_unused]] constexpr int kConsumerWarps = 4 * kConsumers;
[[maybe_unused]] constexpr int kRowThreads = kBlockQueries;  // of LoadRowNumbers
[[maybe_unused]] constexpr int kProducerRegisters = 24;
[[maybe_unused]] constexpr int kConsumerRegisters = 240;

// One thread takes items and brings their plans.
template <typename Shared>
__device__ void TakeItems(const KeysParameters& p, Shared& shared) {
  for (uint32_t n = 0;; ++n) {
    const uint32_t slot = n % 2;
    device::Wait(&shared.plan_empty[slot], n / 2 % 2 ^ 1);
    const int32_t index = atomicAdd(p.counter, 1);
    WorkItem& item = shared.items[slot];
    uint64_t* full = &shared.plan_full[slot];
    if (index >= p.item_count) {
      item.plan = -1;
      device::Arrive(full);
      return;
    }
    item = p.items[index];
    device::ArriveExpectBytes(full, sizeof(KeyTilePlan));
    device::BulkLoad(&shared.plans[slot], p.plans + item.plan, sizeof(KeyTilePlan), full);
  }
}

template <typename Shared>
__device__ __forceinline__ void LoadKeys(const KeysParameters& p, int32_t row, int32_t group, Shared& shared) {
  uint64_t* full = &shared.keys_full;
  device::ArriveExpectBytes(full, sizeof(shared.k) + sizeof(shared.v));
#pragma unroll
  for (int c = 0; c < Shared::kColumnBlocks; ++c) {
    device::TmaLoad(&shared.k[c], &p.k, full, 64 * c, group, row);
  }
#pragma unroll
  for (int c = 0; c < Shared::kValueBlocks; ++c) {
    device::TmaLoad(&shared.v[c], &p.v, full, 64 * c, group, row);
  }
}

// A block of queries, or its dout.
template <int kColumnBlocks>
__device__ __forceinline__ void LoadBlock(const CUtensorMap& map,
                                          int32_t head,
                                          int32_t row,
                                          uint64_t* full,
                                          BFloat16 (&tile)[kColumnBlocks][kBlockQueries][64]) {
  device::ArriveExpectBytes(full, sizeof(tile));
#pragma unroll
  for (int c = 0; c < kColumnBlocks; ++c) {
    device::TmaLoad(&tile[c], &map, full, 64 * c, head, row);
  }
}

// One thread brings keys, values, queries and dout of all items.
template <typename Shared>
__device__ void LoadTiles(const KeysParameters& p, Shared& shared) {
  const int32_t queries_per_kv = p.problem.queries_per_kv;
  Ring<Shared::kStages> ring;
  for (uint32_t n = 0;; ++n) {
    const uint32_t slot = n % 2;
    device::Wait(&shared.plan_full[slot], n / 2 % 2);
    const KeyTilePlan& plan = shared.plans[slot];
    const WorkItem& item = shared.items[slot];
    if (item.plan < 0) {
      return;
    }
    bool keys_due = true;  // behind the first queries: the last item's keys are still in use when their place is free
    for (BlockCursor at = item.begin; at.left > 0 || keys_due; plan.Next(queries_per_kv, at)) {
      const int32_t row = plan.segment[at.segment].origin + plan.Row(at);
      const int32_t head = item.group * queries_per_kv + at.head;
      if (at.left > 0) {
        device::Wait(&shared.query_empty[ring.stage], ring.parity ^ 1);
        LoadBlock(p.q, head, row, &shared.query_full[ring.stage], shared.q[ring.stage]);
      }
      if (keys_due) {
        device::Wait(&shared.keys_empty, n % 2 ^ 1);
        LoadKeys(p, plan.key_row, item.group, shared);
        keys_due = false;
      }
      if (at.left > 0) {
        device::Wait(&shared.out_empty[ring.stage], ring.parity ^ 1);
        LoadBlock(p.dout, head, row, &shared.out_full[ring.stage], shared.dout[ring.stage]);
        ring.Next();
      }
    }
    device::Arrive(&shared.plan_empty[slot]);
  }
}

// Two warps bring lse and delta, a row of the block each thread. Rows that don't exist, and rows that see nothing, have
// weight 0. Every thread arrives for what it has written or read itself.
template <typename Shared>
__device__ void LoadRowNumbers(const KeysParameters& p, Shared& shared) {
  const int32_t queries_per_kv = p.problem.queries_per_kv;
  const auto place = static_cast<int32_t>(threadIdx.x % kBlockQueries);
  Ring<Shared::kStages> ring;
  for (uint32_t n = 0;; ++n) {
    const uint32_t slot = n % 2;
    device::Wait(&shared.plan_full[slot], n / 2 % 2);
    const KeyTilePlan& plan = shared.plans[slot];
    const WorkItem& item = shared.items[slot];
    if (item.plan < 0) {
      return;
    }
    for (BlockCursor at = item.begin; at.left > 0; plan.Next(queries_per_kv, at)) {
      const int64_t row = plan.segment[at.segment].origin + plan.Row(at) + place;
      float lse = -INFINITY;
      float delta = 0.0F;
      if (row >= 0 && row < p.query_rows) {
        const int64_t index = row * p.problem.heads + item.group * queries_per_kv + at.head;
        lse = p.lse[index];
        delta = p.delta[index];
      }
      device::Wait(&shared.out_empty[ring.stage], ring.parity ^ 1);
      shared.minus_lse[ring.stage][place] = lse == -INFINITY ? -INFINITY : -kLog2E * lse;
      shared.minus_delta[ring.stage][place] = -delta;
      device::Arrive(&shared.out_full[ring.stage]);
      ring.Next();
    }
    device::Arrive(&shared.plan_empty[slot]);
  }
}

template <int kDim, int kValueDim>
__device__ __forceinline__ void Consume(const KeysParameters& p,
                                        int32_t consumer,
                                        KeysShared<kDim, kValueDim>& shared) {
  using Consumer = std::conditional_t<kDim == kValueDim, KeysConsumer<kDim>, WideKeysConsumer<kDim, kValueDim>>;
  Consumer tiles(shared, consumer, p.problem);
  for (uint32_t n = 0;; ++n) {
    const uint32_t slot = n % 2;
    device::Wait(&shared.plan_full[slot], n / 2 % 2);
    const KeyTilePlan& plan = shared.plans[slot];
    const WorkItem& item = shared.items[slot];
    if (item.plan < 0) {
      return;
    }
    device::Wait(&shared.keys_full, n % 2);
    float dk[kDim / 2];
    float dv[kValueDim / 2];
    tiles.Accumulate(plan, item.begin, dk, dv);
    StoreItem<kDim, kValueDim>(p, plan, item, consumer, dk, dv);
    device::Arrive(&shared.plan_empty[slot]);
  }
}

// Tiles are the business of the copy engine and the tensor cores, and one arrival speaks for a warp. Plans and rows'
// numbers are written or read by ordinary instructions of every thread, and every thread arrives.
template <typename Shared>
__device__ void InitBarriers(Shared& shared) {
  for (int i = 0; i < 2; ++i) {
    device::InitBarrier(&shared.plan_full[i], 1);
    device::InitBarrier(&shared.plan_empty[i], kConsumerThreads + kRowThreads + 1);  // and the one that loads tiles
  }
  device::InitBarrier(&shared.keys_full, 1);
  device::InitBarrier(&shared.keys_empty, kConsumerWarps);
  for (int i = 0; i < Shared::kStages; ++i) {
    device::InitBarrier(&shared.query_full[i], 1);
    device::InitBarrier(&shared.query_empty[i], kConsumerWarps);
    device::InitBarrier(&shared.out_full[i], kRowThreads + 1);  // and the one that loads tiles
    device::InitBarrier(&shared.out_empty[i], kConsumerThreads);
  }
  device::FenceBarrierInit();
}

template <int kDim, int kValueDim>
__global__ void __launch_bounds__(kThreads, 1) BackwardKeysKernel(const __grid_constant__ KeysParameters p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<KeysShared<kDim, kValueDim>*>(memory);
  if (threadIdx.x == 0) {
    InitBarriers(shared);
  }
  __syncthreads();
  // The same number in all lanes, so that the compiler knows branches and addresses as uniform.
  const int32_t warp = __shfl_sync(0xffffffffU, static_cast<int32_t>(threadIdx.x / 32), 0);
  if (warp / 4 == 0) {
    device::ShrinkRegisters<kProducerRegisters>();
    if (warp == 0) {
      if (threadIdx.x % 32 == 0) {
        TakeItems(p, shared);
      }
    } else if (warp == 1) {
      if (threadIdx.x % 32 == 0) {
        LoadTiles(p, shared);
      }
    } else {
      LoadRowNumbers(p, shared);
    }
  } else {
    device::GrowRegisters<kConsumerRegisters>();
    Consume(p, warp / 4 - 1, shared);
  }
#endif
}

// Adds the parts of a tile in their order: kAddBlocks blocks for a tile's gradients, plan after plan.
constexpr int kAddThreads = 256;
constexpr int kAddBlocks = 4;

template <int kDim, int kValueDim>
__global__ void __launch_bounds__(kAddThreads) AddKeyPartsKernel(const __grid_constant__ KeysParameters p) {
  const auto blocks_of_plan = static_cast<uint32_t>(kAddBlocks * p.problem.groups);
  const KeyTilePlan& plan = p.plans[blockIdx.x / blocks_of_plan];
  if (plan.parts == 1) {
    return;
  }
  constexpr int kFours = kTileKeys * (kDim + kValueDim) / 4;
  constexpr int kKeyFours = kTileKeys * kDim / 4;  // of dk, which comes first
  const auto group = static_cast<int32_t>(blockIdx.x % blocks_of_plan / kAddBlocks);
  const int32_t columns = p.problem.layout.sequences * p.problem.groups;
  const auto begin = static_cast<int32_t>(blockIdx.x % kAddBlocks) * (kFours / kAddBlocks);
  for (auto i = begin + static_cast<int32_t>(threadIdx.x); i < begin + kFours / kAddBlocks; i += kAddThreads) {
    const bool is_dk = i < kKeyFours;
    const int32_t key = is_dk ? i / (kDim / 4) : (i - kKeyFours) / (kValueDim / 4);
    if (key >= plan.keys) {
      continue;
    }
    float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
    for (int32_t part = 0; part < plan.parts; ++part) {
      const int64_t slot = plan.first_slot + group + int64_t{part} * columns;
      const float4 x = reinterpret_cast<const float4*>(p.parts)[slot * kFours + i];
      sum = {sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w};
    }
    const float factor = is_dk ? p.problem.scale : 1.0F;
    const int64_t row = (int64_t{plan.key_row} + key) * p.problem.groups + group;
    BFloat16* to =
        is_dk ? p.dk + row * kDim + i % (kDim / 4) * 4 : p.dv + row * kValueDim + (i - kKeyFours) % (kValueDim / 4) * 4;
    *reinterpret_cast<uint2*>(to) = {device::PackBFloat16(factor * sum.x, factor * sum.y),
                                     device::PackBFloat16(factor * sum.z, factor * sum.w)};
  }
}

template <int kDim, int kValueDim>
void Run(const AttentionBackwardArgs& args, const TensorView& delta, Allocator& scratch, const Stream& stream) {
  const KeyWork work = MakeKeyWork(args);
  const auto sequences = static_cast<unsigned>(args.layout.sequences);
  const auto tiles = static_cast<unsigned>(work.tiles());
  const KeyScratch taken = TakeKeyScratch(work, scratch);
  if (stream.dry || taken.item_count == 0) {
    return;
  }
  auto* plan_data = reinterpret_cast<KeyTilePlan*>(taken.plans.As<int32_t>());
  auto* item_data = reinterpret_cast<WorkItem*>(taken.items.As<int32_t>());
  cuda::Launch("PlanKeysKernel",
               stream,
               {dim3(sequences * tiles), dim3(kTileKeys)},
               PlanKeysKernel,
               work,
               plan_data,
               item_data,
               taken.counter.As<int32_t>());
  // From the first query that is there: blocks begin where their readers do, or before, and what lies outside of the
  // tensors is read as zeros.
  const int64_t first = args.layout.query_begin;
  const int64_t queries = args.q.rows() - first;
  const KeysParameters p = {.problem = work.problem,
                            .query_rows = queries,
                            .q = cuda::MakeTensorMap(args.q.Rows(first, queries), kBlockQueries),
                            .dout = cuda::MakeTensorMap(args.dout.Rows(first, queries), kBlockQueries),
                            .k = cuda::MakeTensorMap(args.k, kTileKeys),
                            .v = cuda::MakeTensorMap(args.v, kTileKeys),
                            .lse = args.lse.Rows(first, queries).As<float>(),
                            .delta = delta.Rows(first, queries).As<float>(),
                            .dk = args.dk.As<BFloat16>(),
                            .dv = args.dv.As<BFloat16>(),
                            .parts = taken.parts.As<float>(),
                            .plans = plan_data,
                            .items = item_data,
                            .item_count = taken.item_count,
                            .counter = taken.counter.As<int32_t>()};
  int multiprocessors = 0;
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, stream.device.ordinal));
  cuda::Launch("BackwardKeysKernel",
               stream,
               {dim3(static_cast<unsigned>(std::min(multiprocessors, taken.item_count))),
                dim3(kThreads),
                sizeof(KeysShared<kDim, kValueDim>)},
               BackwardKeysKernel<kDim, kValueDim>,
               p);
  if (taken.slots > 0) {
    const dim3 grid(static_cast<unsigned>(kAddBlocks * work.problem.groups) * sequences * tiles);
    cuda::Launch("AddKeyPartsKernel", stream, {grid, dim3(kAddThreads)}, AddKeyPartsKernel<kDim, kValueDim>, p);
  }
}

}  // namespace

void BackwardKeys(const AttentionBackwardArgs& args,
                  const TensorView& delta,
                  Allocator& scratch,
                  const Stream& stream) {
  const int64_t dim = args.q.shape[2];
  if (dim == 64) {
    Run<64, 64>(args, delta, scratch, stream);
  } else if (dim == 128) {
    Run<128, 128>(args, delta, scratch, stream);
  } else {
    Run<192, 128>(args, delta, scratch, stream);
  }
}

}  // namespace ksa::cuda_attention::wgmma
