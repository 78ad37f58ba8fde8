// Shared memory of the sm_90a kernels that hold queries, and the producer warp that fills it: queries of an item in
// slots of their own, keys and values in two rings. Full barriers count bytes; empty ones the consumer warps that have
// read.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_wgmma_plan.cuh"
#include "kernels/device/tma.cuh"

namespace ksa::cuda_attention::wgmma {

inline constexpr int kBlockThreads = 384;  // a warpgroup that copies and two that compute
inline constexpr int kStages = 2;          // tiles of keys, and of values, in shared memory
inline constexpr int kConsumerWarps = 8;

// A tile of 128 rows of one head: blocks of 64 columns, swizzled (kernels/device/wgmma.cuh).
template <int kHeadDim>
struct alignas(1024) SharedTile {
  static constexpr uint32_t kBlockBytes = kTileRows * 128;
  static constexpr uint32_t kBytes = kHeadDim / 64 * kBlockBytes;
  uint8_t bytes[kBytes];
};

// kSides: tensors that an item brings once (q; or q and dout). kSlots: items whose queries are here at a time.
template <int kHeadDim, int kSides, int kSlots>
struct SharedMemory {
  using Tile = SharedTile<kHeadDim>;
  Tile queries[kSlots][kSides];
  Tile keys[kStages];
  Tile values[kStages];
  RowKeys rows[kSlots][kTileRows];
  TilePlan plans[kSlots];
  uint64_t queries_full[kSlots];
  uint64_t queries_empty[kSlots];
  uint64_t keys_full[kStages];
  uint64_t keys_empty[kStages];
  uint64_t values_full[kStages];
  uint64_t values_empty[kStages];
};

template <int kHeadDim, int kSides, int kSlots>
__device__ __forceinline__ void InitBarriers(SharedMemory<kHeadDim, kSides, kSlots>& shared) {
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kSlots; ++slot) {
      device::InitBarrier(&shared.queries_full[slot], 1);
      device::InitBarrier(&shared.queries_empty[slot], kConsumerWarps);
    }
    for (int stage = 0; stage < kStages; ++stage) {
      device::InitBarrier(&shared.keys_full[stage], 1);
      device::InitBarrier(&shared.keys_empty[stage], kConsumerWarps);
      device::InitBarrier(&shared.values_full[stage], 1);
      device::InitBarrier(&shared.values_empty[stage], kConsumerWarps);
    }
    device::FenceBarrierInit();
  }
  __syncthreads();
}

// A place in a ring of kSlots, by the number of uses before it since the kernel began.
template <int kSlots>
struct RingIndex {
  uint32_t uses = 0;

  [[nodiscard]] __device__ __forceinline__ uint32_t slot() const { return uses % kSlots; }

  [[nodiscard]] __device__ __forceinline__ uint32_t phase() const { return uses / kSlots % 2; }

  __device__ __forceinline__ void Next() { ++uses; }
};

struct QueryMaps {
  CUtensorMap q;
  CUtensorMap dout;  // of backward
  CUtensorMap k;
  CUtensorMap v;
};

template <int kHeadDim>
__device__ __forceinline__ void LoadTile(
    SharedTile<kHeadDim>& tile, const CUtensorMap& map, uint64_t* barrier, int32_t head, int32_t row) {
#pragma unroll
  for (int block = 0; block < kHeadDim / 64; ++block) {
    device::TmaLoad(tile.bytes + block * SharedTile<kHeadDim>::kBlockBytes, &map, barrier, block * 64, head, row);
  }
}

// The keys and values of an item, tile by tile, as slots become free. By one thread.
template <int kHeadDim, int kSides, int kSlots>
__device__ __forceinline__ void LoadKeys(SharedMemory<kHeadDim, kSides, kSlots>& shared,
                                         const QueryProblem& problem,
                                         const QueryMaps& maps,
                                         const QueryItem& item,
                                         const TilePlan& plan,
                                         RingIndex<kStages>& ring) {
  constexpr uint32_t kBytes = SharedTile<kHeadDim>::kBytes;
  const int32_t key_head = item.head / problem.heads_per_key_head;
  const auto text_row = static_cast<int32_t>(problem.layout.TextRow(item.sequence, 0));
  const auto summary_row = static_cast<int32_t>(problem.layout.SummaryRow(item.sequence, 0));
  const int32_t tiles = plan.tiles();
  for (int32_t t = 0; t < tiles; ++t) {
    const int32_t row = (plan.IsText(t) ? text_row : summary_row) + plan.First(t);
    const uint32_t slot = ring.slot();
    device::Wait(&shared.keys_empty[slot], ring.phase() ^ 1);
    device::ArriveExpectBytes(&shared.keys_full[slot], kBytes);
    LoadTile(shared.keys[slot], maps.k, &shared.keys_full[slot], key_head, row);
    device::Wait(&shared.values_empty[slot], ring.phase() ^ 1);
    device::ArriveExpectBytes(&shared.values_full[slot], kBytes);
    LoadTile(shared.values[slot], maps.v, &shared.values_full[slot], key_head, row);
    ring.Next();
  }
}

// The producer warp: for every item of this block its plan and queries, then its keys and values.
template <int kHeadDim, int kSides, int kSlots>
__device__ __forceinline__ void Produce(SharedMemory<kHeadDim, kSides, kSlots>& shared,
                                        const QueryProblem& problem,
                                        const QueryMaps& maps) {
  const bool leader = threadIdx.x % 32 == 0;
  RingIndex<kStages> ring;
  RingIndex<kSlots> items;
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      return;
    }
    const QueryItem item = ItemAt(problem, index);
    const uint32_t slot = items.slot();
    device::Wait(&shared.queries_empty[slot], items.phase() ^ 1);
    items.Next();
    const TilePlan plan = PlanTile(problem, item, shared.rows[slot]);
    if (leader) {
      shared.plans[slot] = plan;
    }
    __syncwarp();
    if (leader) {
      const auto row = static_cast<int32_t>(problem.layout.TextRow(item.sequence, item.first));
      uint64_t* full = &shared.queries_full[slot];
      device::ArriveExpectBytes(full, kSides * SharedTile<kHeadDim>::kBytes);
      LoadTile(shared.queries[slot][0], maps.q, full, item.head, row);
      if constexpr (kSides > 1) {
        LoadTile(shared.queries[slot][1], maps.dout, full, item.head, row);
      }
      LoadKeys(shared, problem, maps, item, plan, ring);
    }
    __syncwarp();
  }
}

}  // namespace ksa::cuda_attention::wgmma
