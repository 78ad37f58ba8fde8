// The work of the Hopper kernel that holds keys (backward_keys.cu): tiles of keys, in the order in
// which they are taken, and what a block has to know about one.
//
// A tile is 128 keys, text or summaries, of one sequence and one key/value head. Its queries come in blocks of 64 rows:
// for each query head that shares the keys the text queries' blocks, then for each head the summary queries' blocks.
// A tile whose list is too long beside the other work is cut into parts, work items of their own, that write partial
// sums.
#pragma once

#include <cstdint>

#include "kernels/attention/device.cuh"
#include "kernels/attention/wgmma/keys_work.h"

namespace ksa::cuda_attention::wgmma {

// Queries of one kind, text or summaries, that see a tile. Rows are numbered inside the sequence.
struct QuerySegment {
  int32_t origin;  // row of q that row 0 would be; with a range of queries, before the first one
  int32_t first;   // first row of block 0
  int32_t step;    // from one block's first row to the next one's
  int32_t blocks;  // of one query head
  // Of each consumer's keys: rows that some key is seen by [x, y), and rows that all of them are seen by [z, w).
  int4 seen[kConsumers];
};

// A place in the blocks of an item.
struct BlockCursor {
  int32_t left;     // blocks of the item, this one included
  int32_t segment;  // 0 text, 1 summaries
  int32_t head;     // of those that share the keys
  int32_t block;    // of the segment
};

// A tile of one sequence, for any key/value head.
struct alignas(16) KeyTilePlan {
  int4 readers[kTileKeys];  // text queries [x, y) and summary queries [z, w) of a key; empty behind `keys`
  QuerySegment segment[2];  // text, summaries
  int32_t key_row;          // first row of the tile in k and v
  int32_t keys;             // up to kTileKeys
  int32_t parts;
  int32_t first_slot;  // of the partial sums of part 0 and head 0; head by head, then part by part

  // First row of a block in its sequence.
  [[nodiscard]] __device__ __forceinline__ int32_t Row(const BlockCursor& at) const {
    return segment[at.segment].first + at.block * segment[at.segment].step;
  }

  __device__ __forceinline__ void Next(int32_t queries_per_kv, BlockCursor& at) const {
    --at.left;
    if (++at.block == segment[at.segment].blocks) {
      at.block = 0;
      if (++at.head == queries_per_kv) {
        at.head = 0;
        at.segment = 1;
      }
    }
  }
};

// What is taken at once: a part of a tile for one key/value head.
struct alignas(16) WorkItem {
  int32_t plan;   // -1: there is no more
  int32_t group;  // key/value head
  int32_t slot;   // of partial sums; -1: the item is the whole tile
  int32_t unused;
  BlockCursor begin;
};

static_assert(sizeof(KeyTilePlan) == kKeyTilePlanBytes && sizeof(WorkItem) == kWorkItemBytes);

// Writes plans[tile · b + sequence], and items in their order: by tile, part and column, so that what runs at once
// passes over the same queries at about the same time, which L2 then holds. A block of kTileKeys threads for each tile
// and sequence, at tile · b + sequence. The first block sets *counter to 0.
__global__ void PlanKeysKernel(const __grid_constant__ KeyWork work,
                               KeyTilePlan* plans,
                               WorkItem* items,
                               int32_t* counter);

}  // namespace ksa::cuda_attention::wgmma
