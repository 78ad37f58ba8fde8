// How the Hopper kernel that holds keys (backward_keys.cu) divides its work, and the scratch that this takes: what the
// host knows without a GPU.
#pragma once

#include <cstdint>

#include "kernels/attention/problem.h"
#include "kernels/core/allocator.h"
#include "kernels/core/tensor.h"

namespace ksa::cuda_attention::wgmma {

inline constexpr int kTileKeys = 128;
inline constexpr int kGroupKeys = 64;  // of one consumer warpgroup
inline constexpr int kConsumers = kTileKeys / kGroupKeys;
inline constexpr int kBlockQueries = 64;

[[nodiscard]] KSA_HOST_DEVICE inline int32_t CeilDiv(int32_t a, int32_t b) {
  return (a + b - 1) / b;
}

// Tiles are numbered with the summaries first: they have the longest lists. A column is a key/value head of a sequence.
struct KeyWork {
  Problem problem;
  int32_t summary_tiles;  // of one sequence
  int32_t text_tiles;     // of one sequence
  int32_t part_blocks;    // an item has about this many blocks at most
  int32_t value_dim;

  [[nodiscard]] KSA_HOST_DEVICE int32_t tiles() const { return summary_tiles + text_tiles; }

  [[nodiscard]] KSA_HOST_DEVICE int32_t columns() const { return problem.layout.sequences * problem.groups; }

  // Blocks of text queries of a tile, without regard to documents, for all query heads.
  [[nodiscard]] KSA_HOST_DEVICE int64_t ExpectedBlocks(int32_t tile) const {
    SummaryLayout layout = problem.layout;
    layout.document_first_chunk = nullptr;
    layout.chunk_tokens = nullptr;
    Range readers;
    if (tile < summary_tiles) {
      readers = layout.TextReadersOfSummary(problem.window, 0, tile * kTileKeys);
    } else {
      const int32_t first = (tile - summary_tiles) * kTileKeys;
      const int32_t last = first + kTileKeys < layout.text_tokens ? first + kTileKeys - 1 : layout.text_tokens - 1;
      readers.begin = first > layout.query_begin ? first : layout.query_begin;
      readers.end = layout.TextReadersOfText(problem.window, 0, last).end;
    }
    return int64_t{1} * CeilDiv(readers.size(), kBlockQueries) * problem.queries_per_kv;
  }

  [[nodiscard]] KSA_HOST_DEVICE int32_t Parts(int32_t tile) const {
    const int64_t parts = (ExpectedBlocks(tile) + part_blocks - 1) / part_blocks;
    return parts > 1 ? static_cast<int32_t>(parts) : 1;
  }
};

[[nodiscard]] KeyWork MakeKeyWork(const AttentionBackwardArgs& args);

// Of KeyTilePlan and WorkItem (keys_plan.cuh).
inline constexpr int64_t kKeyTilePlanBytes = 2160;
inline constexpr int64_t kWorkItemBytes = 32;

struct KeyScratch {
  int32_t item_count = 0;
  int32_t slots = 0;
  Tensor plans;    // KeyTilePlan [sequences · tiles]
  Tensor items;    // WorkItem [item_count]
  Tensor counter;  // int32 [1]
  Tensor parts;    // fp32 [slots, kTileKeys · (e + c)]: dk without scale [kTileKeys, e], dv [kTileKeys, c]
};

[[nodiscard]] KeyScratch TakeKeyScratch(const KeyWork& work, Allocator& scratch);

}  // namespace ksa::cuda_attention::wgmma
