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
  Ring<2> ring;
  while (true) {
    device::Wait(&shared.plan_empty[ring.stage], ring.parity ^ 1);
    const int32_t index = atomicAdd(p.counter, 1);
    WorkItem& item = shared.items[ring.stage];
    uint64_t* full = &shared.plan_full[ring.stage];
    if (index >= p.item_count) {
      item.plan = -1;
      device::Arrive(full);
      return;
    }
    item = p.items[index];
    device::ArriveExpectBytes(full, sizeof(TilePlan));
    device::BulkLoad(&shared.plans[ring.stage], p.plans + item.plan, sizeof(TilePlan), full);
    ring.Next();
  }
}

template <int kDim>
__device__ __forceinline__ void LoadKeys(
    const KeysParameters& p, int32_t row, int32_t group, int32_t slot, KeysShared<kDim>& shared) {
  uint64_t* full = &shared.keys_full[slot];
  device::ArriveExpectBytes(full, sizeof(shared.k[0]) + sizeof(shared.v[0]));
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    device::TmaLoad(&shared.k[slot][c], &p.k, full, 64 * c, group, row);
  }
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    device::TmaLoad(&shared.v[slot][c], &p.v, full, 64 * c, group, row);
  }
}

// One thread brings keys, values, queries and dout of all items.
template <int kDim>
__device__ void LoadTiles(const KeysParameters& p, KeysShared<kDim>& shared) {
  using Shared = KeysShared<kDim>;
  const int32_t share = p.problem.share;
  Ring<2> plans;
  Ring<Shared::kKeySlots> keys;
  Ring<Shared::kQueryStages> query;
  Ring<Shared::kOutStages> out;
  while (true) {
    device::Wait(&shared.plan_full[plans.stage], plans.parity);
    const TilePlan& plan = shared.plans[plans.stage];
    const WorkItem& item = shared.items[plans.stage];
    if (item.plan < 0) {
      return;
    }
    device::Wait(&shared.keys_empty[keys.stage], keys.parity ^ 1);
    LoadKeys(p, plan.key_row, item.group, keys.stage, shared);
    for (BlockCursor at = item.begin; at.left > 0; plan.Next(share, at)) {
      const int32_t row = plan.segment[at.segment].origin + plan.Row(at);
      const int32_t head = item.group * share + at.head;
      device::Wait(&shared.query_empty[query.stage], query.parity ^ 1);
      device::ArriveExpectBytes(&shared.query_full[query.stage], sizeof(shared.q[0]));
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        device::TmaLoad(&shared.q[query.stage][c], &p.q, &shared.query_full[query.stage], 64 * c, head, row);
      }
      device::Wait(&shared.out_empty[out.stage], out.parity ^ 1);
      device::ArriveExpectBytes(&shared.out_full[out.stage], sizeof(shared.dout[0]));
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        device::TmaLoad(&shared.dout[out.stage][c], &p.dout, &shared.out_full[out.stage], 64 * c, head, row);
      }
      query.Next();
      out.Next();
    }
    device::Arrive(&shared.plan_empty[plans.stage]);
    plans.Next();
    keys.Next();
  }
}

// Two warps bring lse and delta, a row of the block each thread. Rows that don't exist, and rows that see nothing, have
// weight 0.
template <int kDim>
__device__ void LoadRowNumbers(const KeysParameters& p, KeysShared<kDim>& shared) {
  const int32_t share = p.problem.share;
  const auto place = static_cast<int32_t>(threadIdx.x % kBlockQueries);
  Ring<2> plans;
  Ring<KeysShared<kDim>::kOutStages> out;
  while (true) {
    device::Wait(&shared.plan_full[plans.stage], plans.parity);
    const TilePlan& plan = shared.plans[plans.stage];
    const WorkItem& item = shared.items[plans.stage];
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
      device::Wait(&shared.out_empty[out.stage], out.parity ^ 1);
      shared.minus_lse[out.stage][place] = lse == -INFINITY ? -INFINITY : -kLog2E * lse;
      shared.minus_delta[out.stage][place] = -delta;
      __syncwarp();
      if (place % 32 == 0) {
        device::Arrive(&shared.out_full[out.stage]);
      }
      out.Next();
    }
    __syncwarp();
    if (place % 32 == 0) {
      device::Arrive(&shared.plan_empty[plans.stage]);
    }
    plans.Next();
  }
}

}  // namespace ksa::cuda_attention::wgmma
