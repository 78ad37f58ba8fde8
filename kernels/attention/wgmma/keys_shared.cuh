// What the warps of backward_keys.cu share: the kernel's parameters, shared memory and its rings.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "kernels/attention/wgmma/keys_plan.cuh"
#include "kernels/core/dtype.h"

namespace ksa::cuda_attention::wgmma {

// Tensor maps of q and dout with boxes of kBlockQueries rows, of k and v with kTileKeys.
struct KeysParameters {
  Problem problem;
  int64_t query_rows;
  CUtensorMap q;
  CUtensorMap dout;
  CUtensorMap k;
  CUtensorMap v;
  const float* lse;    // [nq, h]
  const float* delta;  // [nq, h]
  BFloat16* dk;        // [nk, g, e]
  BFloat16* dv;
  float* parts;  // [slot]: dk without scale [kTileKeys, e], dv [kTileKeys, c]
  const KeyTilePlan* plans;
  const WorkItem* items;
  int32_t item_count;
  int32_t* counter;  // items taken
};

// Shared memory of a block: tiles as blocks of 64 columns. A stage holds a block of queries and, with barriers of their
// own, its dout and the numbers of its rows.
template <int kDim, int kValueDim>
struct KeysShared {
  static constexpr int kColumnBlocks = kDim / 64;
  static constexpr int kValueBlocks = kValueDim / 64;
  static constexpr int kStages = kDim <= 128 ? 4 : 3;

  alignas(1024) BFloat16 k[kColumnBlocks][kTileKeys][64];
  BFloat16 v[kValueBlocks][kTileKeys][64];
  BFloat16 q[kStages][kColumnBlocks][kBlockQueries][64];
  BFloat16 dout[kStages][kValueBlocks][kBlockQueries][64];
  float minus_lse[kStages][kBlockQueries];  // base 2; -infinity: the row sees nothing
  float minus_delta[kStages][kBlockQueries];
  KeyTilePlan plans[2];
  WorkItem items[2];
  uint64_t plan_full[2];
  uint64_t plan_empty[2];
  uint64_t keys_full;
  uint64_t keys_empty;
  uint64_t query_full[kStages];
  uint64_t query_empty[kStages];
  uint64_t out_full[kStages];
  uint64_t out_empty[kStages];
};

static_assert(sizeof(KeysShared<192, 128>) <= 227 * 1024, "all that a block of Hopper has");

// A place in a ring of buffers, and the parity of the phase in which it is filled.
template <int kStages>
struct Ring {
  int32_t stage = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace ksa::cuda_attention::wgmma
