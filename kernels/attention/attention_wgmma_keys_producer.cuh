// What the producer warps of attention_wgmma_backward_keys.cu do.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention/attention_wgmma_keys_plan.cuh"
#include "kernels/attention/attention_wgmma_keys_shared.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/tma.cuh"

namespace ksa::cuda_attention::wgmma {

// One thread takes items and brings their plans.
template <int kDim>
__device__ void TakeItems(const KeysParameters& p, KeysShared<kDim>& shared) {
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
    device::ArriveExpectBytes(full, sizeof(TilePlan));
    device::BulkLoad(&shared.plans[slot], p.plans + item.plan, sizeof(TilePlan), full);
  }
}

template <int kDim>
__device__ __forceinline__ void LoadKeys(const KeysParameters& p,
                                         int32_t row,
                                         int32_t group,
                                         KeysShared<kDim>& shared) {
  uint64_t* full = &shared.keys_full;
  device::ArriveExpectBytes(full, sizeof(shared.k) + sizeof(shared.v));
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    device::TmaLoad(&shared.k[c], &p.k, full, 64 * c, group, row);
  }
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    device::TmaLoad(&shared.v[c], &p.v, full, 64 * c, group, row);
  }
}

// A block of queries, or its dout.
template <int kDim>
__device__ __forceinline__ void LoadBlock(
    const CUtensorMap& map, int32_t head, int32_t row, uint64_t* full, BFloat16 (&tile)[kDim / 64][kBlockQueries][64]) {
  device::ArriveExpectBytes(full, sizeof(tile));
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    device::TmaLoad(&tile[c], &map, full, 64 * c, head, row);
  }
}

// One thread brings keys, values, queries and dout of all items.
template <int kDim>
__device__ void LoadTiles(const KeysParameters& p, KeysShared<kDim>& shared) {
  const int32_t share = p.problem.share;
  Ring<KeysShared<kDim>::kStages> ring;
  for (uint32_t n = 0;; ++n) {
    const uint32_t slot = n % 2;
    device::Wait(&shared.plan_full[slot], n / 2 % 2);
    const TilePlan& plan = shared.plans[slot];
    const WorkItem& item = shared.items[slot];
    if (item.plan < 0) {
      return;
    }
    bool keys_due = true;  // behind the first queries: the last item's keys are still in use when their place is free
    for (BlockCursor at = item.begin; at.left > 0 || keys_due; plan.Next(share, at)) {
      const int32_t row = plan.segment[at.segment].origin + plan.Row(at);
      const int32_t head = item.group * share + at.head;
      if (at.left > 0) {
        device::Wait(&shared.query_empty[ring.stage], ring.parity ^ 1);
        LoadBlock<kDim>(p.q, head, row, &shared.query_full[ring.stage], shared.q[ring.stage]);
      }
      if (keys_due) {
        device::Wait(&shared.keys_empty, n % 2 ^ 1);
        LoadKeys(p, plan.key_row, item.group, shared);
        keys_due = false;
      }
      if (at.left > 0) {
        device::Wait(&shared.out_empty[ring.stage], ring.parity ^ 1);
        LoadBlock<kDim>(p.dout, head, row, &shared.out_full[ring.stage], shared.dout[ring.stage]);
        ring.Next();
      }
    }
    device::Arrive(&shared.plan_empty[slot]);
  }
}

// Two warps bring lse and delta, a row of the block each thread. Rows that don't exist, and rows that see nothing, have
// weight 0. Every thread arrives for what it has written or read itself.
template <int kDim>
__device__ void LoadRowNumbers(const KeysParameters& p, KeysShared<kDim>& shared) {
  const int32_t share = p.problem.share;
  const auto place = static_cast<int32_t>(threadIdx.x % kBlockQueries);
  Ring<KeysShared<kDim>::kStages> ring;
  for (uint32_t n = 0;; ++n) {
    const uint32_t slot = n % 2;
    device::Wait(&shared.plan_full[slot], n / 2 % 2);
    const TilePlan& plan = shared.plans[slot];
    const WorkItem& item = shared.items[slot];
    if (item.plan < 0) {
      return;
    }
    for (BlockCursor at = item.begin; at.left > 0; plan.Next(share, at)) {
      const int64_t row = plan.segment[at.segment].origin + plan.Row(at) + place;
      float lse = -INFINITY;
      float delta = 0.0F;
      if (row >= 0 && row < p.query_rows) {
        const int64_t index = row * p.problem.heads + item.group * share + at.head;
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

}  // namespace ksa::cuda_attention::wgmma
