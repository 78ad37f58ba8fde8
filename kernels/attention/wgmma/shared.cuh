// Shared memory of the sm_90a kernels that hold queries, and the producer warp that fills it: queries of an item in
// slots of their own, keys and values in two rings. Full barriers count bytes; empty ones of rings the consumer warps
// whose products have read, those of items the threads, which read plan and rows by themselves.
#pragma once

#include <cstdint>

#include "kernels/attention/wgmma/plan.cuh"
#include "kernels/device/tma.cuh"

namespace ksa::cuda_attention::wgmma {

inline constexpr int kBlockThreads = 384;  // a warpgroup that copies and two that compute
inline constexpr int kConsumerWarps = 8;
inline constexpr int kConsumerThreads = 32 * kConsumerWarps;
// Registers of a thread: 128 · 56 + 256 · 224 is what 384 threads have at launch.
inline constexpr int kProducerRegisters = 56;
inline constexpr int kConsumerRegisters = 224;

// A tile of 128 rows of one head: blocks of 64 columns, swizzled (kernels/device/wgmma.cuh).
template <int kHeadDim>
struct alignas(1024) SharedTile {
  static constexpr uint32_t kBlockBytes = kTileRows * 128;
  static constexpr uint32_t kBytes = kHeadDim / 64 * kBlockBytes;
  uint8_t bytes[kBytes];
};

// A place in a ring of kSlots, by the number of uses before it since the kernel began.
template <int kSlots>
struct RingIndex {
  static constexpr uint32_t kSize = kSlots;
  uint32_t uses = 0;

  [[nodiscard]] __device__ __forceinline__ uint32_t slot() const { return uses % kSlots; }

  [[nodiscard]] __device__ __forceinline__ uint32_t phase() const { return uses / kSlots % 2; }

  __device__ __forceinline__ void Next() { ++uses; }
};

// What an item brings once: q, or q and dout.
template <int kHeadDim, int kValueDim, int kSides>
struct SharedQueries {
  static_assert(kSides == 1);
  SharedTile<kHeadDim> q;
};

template <int kHeadDim, int kValueDim>
struct SharedQueries<kHeadDim, kValueDim, 2> {
  SharedTile<kHeadDim> q;
  SharedTile<kValueDim> dout;
};

// kHeadDim: columns of a head of queries and keys; kValueDim: of values. kSides: tensors that an item brings once (q;
// or q and dout). kSlots: items whose queries are here at a time. kKeyStages, kValueStages: tiles of keys and of
// values.
template <int kHeadDim, int kValueDim, int kSides, int kSlots, int kKeyStages, int kValueStages>
struct SharedMemory {
  using Queries = SharedQueries<kHeadDim, kValueDim, kSides>;
  using Tile = SharedTile<kHeadDim>;
  using ValueTile = SharedTile<kValueDim>;
  using ItemRing = RingIndex<kSlots>;
  using KeyRing = RingIndex<kKeyStages>;
  using ValueRing = RingIndex<kValueStages>;
  Queries queries[kSlots];
  Tile keys[kKeyStages];
  ValueTile values[kValueStages];
  RowKeys rows[kSlots][kTileRows];
  RowKeys seen[kSlots][2];  // by a consumer warpgroup
  QueryTilePlan plans[kSlots];
  uint64_t planned[kSlots];
  uint64_t queries_full[kSlots];
  uint64_t queries_empty[kSlots];
  uint64_t keys_full[kKeyStages];
  uint64_t keys_empty[kKeyStages];
  uint64_t values_full[kValueStages];
  uint64_t values_empty[kValueStages];
};

template <int kCount>
__device__ __forceinline__ void InitBarriers(uint64_t (&barriers)[kCount], uint32_t arrivals) {
  for (uint64_t& barrier : barriers) {
    device::InitBarrier(&barrier, arrivals);
  }
}

template <typename Shared>
__device__ __forceinline__ void InitAllBarriers(Shared& shared) {
  if (threadIdx.x == 0) {
    InitBarriers(shared.planned, 1);
    InitBarriers(shared.queries_full, 32);                     // the lanes of the warp that plans
    InitBarriers(shared.queries_empty, kConsumerThreads + 1);  // and the producer of keys, which reads the plan
    InitBarriers(shared.keys_full, 1);
    InitBarriers(shared.keys_empty, kConsumerWarps);
    InitBarriers(shared.values_full, 1);
    InitBarriers(shared.values_empty, kConsumerWarps);
    device::FenceBarrierInit();
  }
  __syncthreads();
}

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

// The producer warp of plans and queries.
template <int kSides, typename Shared>
__device__ __forceinline__ void ProduceQueries(Shared& shared, const QueryProblem& problem, const QueryMaps& maps) {
  const uint32_t lane = threadIdx.x % 32;
  typename Shared::ItemRing items;
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      return;
    }
    const QueryItem item = ItemAt(problem, index);
    PlannedItem planned;
    PlanTile(problem, item, planned);  // before the slot is free
    const uint32_t slot = items.slot();
    device::Wait(&shared.queries_empty[slot], items.phase() ^ 1);
    items.Next();
#pragma unroll
    for (int j = 0; j < kTileRows / 32; ++j) {
      shared.rows[slot][32 * j + lane] = planned.rows[j];
    }
    if (lane == 0) {
      shared.seen[slot][0] = planned.seen[0];
      shared.seen[slot][1] = planned.seen[1];
      shared.plans[slot] = planned.plan;
    }
    uint64_t* full = &shared.queries_full[slot];
    if (lane != 0) {
      device::Arrive(full);
    } else {
      const auto row = static_cast<int32_t>(problem.layout.TextRow(item.sequence, item.first));
      device::Arrive(&shared.planned[slot]);
      device::ArriveExpectBytes(full, sizeof(typename Shared::Queries));
      LoadTile(shared.queries[slot].q, maps.q, full, item.head, row);
      if constexpr (kSides > 1) {
        LoadTile(shared.queries[slot].dout, maps.dout, full, item.head, row);
      }
    }
    __syncwarp();
  }
}

// A tile of keys and one of values, from row `row` on, as slots become free.
template <typename Shared>
__device__ __forceinline__ void LoadKeys(Shared& shared,
                                         const QueryMaps& maps,
                                         int32_t head,
                                         int32_t row,
                                         typename Shared::KeyRing& keys,
                                         typename Shared::ValueRing& values) {
  const uint32_t key = keys.slot();
  device::Wait(&shared.keys_empty[key], keys.phase() ^ 1);
  device::ArriveExpectBytes(&shared.keys_full[key], Shared::Tile::kBytes);
  LoadTile(shared.keys[key], maps.k, &shared.keys_full[key], head, row);
  keys.Next();
  const uint32_t value = values.slot();
  device::Wait(&shared.values_empty[value], values.phase() ^ 1);
  device::ArriveExpectBytes(&shared.values_full[value], Shared::ValueTile::kBytes);
  LoadTile(shared.values[value], maps.v, &shared.values_full[value], head, row);
  values.Next();
}

// The producer of keys and values: one thread.
template <typename Shared>
__device__ __forceinline__ void ProduceKeys(Shared& shared, const QueryProblem& problem, const QueryMaps& maps) {
  typename Shared::ItemRing items;
  typename Shared::KeyRing keys;
  typename Shared::ValueRing values;
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      return;
    }
    const QueryItem item = ItemAt(problem, index);
    const int32_t head = item.head / problem.heads_per_key_head;
    const uint32_t slot = items.slot();
    device::Wait(&shared.planned[slot], items.phase());
    const QueryTilePlan& plan = shared.plans[slot];
    items.Next();
    const int32_t text_tiles = plan.text_tiles();
    const int32_t tiles = plan.tiles();
    const auto summary_row = static_cast<int32_t>(problem.layout.SummaryRow(item.sequence, plan.summary.begin));
    auto row = static_cast<int32_t>(problem.layout.TextRow(item.sequence, plan.text.end)) - kTileKeys;
    device::Arrive(&shared.queries_empty[slot]);
#pragma unroll 1
    for (int32_t t = 0; t < tiles; ++t) {
      LoadKeys(shared, maps, head, row, keys, values);
      row = t + 1 < text_tiles ? row - kTileKeys : summary_row + (t + 1 - text_tiles) * kTileKeys;
    }
  }
}

// The work of the producer warpgroup.
template <int kSides, typename Shared>
__device__ __forceinline__ void Produce(Shared& shared, const QueryProblem& problem, const QueryMaps& maps) {
  if (threadIdx.x / 32 == 1) {
    ProduceQueries<kSides>(shared, problem, maps);
  } else if (threadIdx.x == 0) {
    ProduceKeys(shared, problem, maps);
  }
}

}  // namespace ksa::cuda_attention::wgmma
