// What the sm_90a kernels that hold queries share: which tile of queries a block works on, which keys that tile passes
// over, the producer warp that brings them, masks, and the store of results.
//
// A work item is a tile of 128 queries of one head of one sequence. Blocks are persistent; block b of G takes the items
// b, 2G-1-b, 2G+b, 4G-1-b, ...: neighbours in the list are alike in length, so the blocks end together without a
// counter in memory. The list runs through groups of heads whose keys fit in the L2 cache together, back and forth over
// the tiles, so that lengths change slowly, and ends with the shortest.
//
// A tile's keys are 128 at a time: first text, from the diagonal to the left, so that every row sees a key (itself) in
// the first tile; then summaries. Tiles need no alignment. A tile that all rows see needs no mask.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/problem.h"

namespace ksa::cuda_attention::wgmma {

inline constexpr int kTileRows = 128;  // queries of a block, 64 of each of its two consumer warpgroups
inline constexpr int kTileKeys = 128;

// What to do, the same for all blocks.
struct QueryProblem {
  SummaryLayout layout;
  AttentionWindow window;
  int32_t heads = 0;
  int32_t heads_per_key_head = 1;
  Range queries;                // text rows of a sequence
  int32_t tiles = 0;            // of a sequence
  int32_t units = 0;            // heads of all sequences
  int32_t units_per_group = 1;  // whose keys share the L2 cache
  int32_t items = 0;
  float scale = 0;       // of scores
  float scale_log2 = 0;  // the same for exponentials of base 2
};

// `tensor_q` [nq, h, e], `tensor_k` [nk, g, e]. `scale`: of scores.
[[nodiscard]] QueryProblem MakeQueryProblem(const SummaryLayout& layout,
                                            const AttentionWindow& window,
                                            const TensorView& tensor_q,
                                            const TensorView& tensor_k,
                                            float scale);

// Blocks of a persistent launch: one a multiprocessor, at most one an item.
[[nodiscard]] int PersistentBlocks(const QueryProblem& problem, const Device& device);

struct QueryItem {
  int32_t sequence = 0;
  int32_t head = 0;
  int32_t first = 0;  // text row of the sequence
};

// The item that block `block` of `blocks` takes in round `round`; none when the index is not below problem.items.
__device__ __forceinline__ int32_t ItemIndex(int32_t round, int32_t block, int32_t blocks) {
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

__device__ __forceinline__ QueryItem ItemAt(const QueryProblem& problem, int32_t index) {
  const int32_t items_per_group = problem.units_per_group * problem.tiles;
  const int32_t group = index / items_per_group;
  const int32_t groups = (problem.units + problem.units_per_group - 1) / problem.units_per_group;
  const int32_t first_unit = group * problem.units_per_group;
  const int32_t size = min(problem.units_per_group, problem.units - first_unit);
  const int32_t inside = index - group * items_per_group;
  const int32_t rank = inside / size;
  const int32_t unit = first_unit + inside - rank * size;
  const int32_t tile = (groups - 1 - group) % 2 == 0 ? problem.tiles - 1 - rank : rank;
  return {unit / problem.heads, unit % problem.heads, problem.queries.begin + tile * kTileRows};
}

// Keys that one query sees; text is empty for a row that sees nothing.
struct alignas(16) RowKeys {
  Range text;
  Range summary;
};

// A tile of keys as one warpgroup meets it, or the half of it that the group's rows see.
struct KeyTile {
  int32_t first = 0;  // key
  bool is_text = false;
  bool masked = false;
  bool half = false;
  bool second_half = false;
};

// Keys of a tile of queries: those that some row sees, and those that all rows see which see anything.
struct QueryTilePlan {
  Range text;
  Range text_full;
  Range summary;
  Range summary_full;

  [[nodiscard]] __device__ __forceinline__ int32_t text_tiles() const {
    return (text.size() + kTileKeys - 1) / kTileKeys;
  }

  [[nodiscard]] __device__ __forceinline__ int32_t tiles() const {
    return text_tiles() + (summary.size() + kTileKeys - 1) / kTileKeys;
  }

  [[nodiscard]] __device__ __forceinline__ bool IsText(int32_t t) const { return t < text_tiles(); }

  // First text key, or first summary key, of tile t.
  [[nodiscard]] __device__ __forceinline__ int32_t First(int32_t t) const {
    return IsText(t) ? text.end - (t + 1) * kTileKeys : summary.begin + (t - text_tiles()) * kTileKeys;
  }

  // Tile t for a warpgroup whose rows see `seen`. One that sees nothing of the tile takes its first half.
  [[nodiscard]] __device__ __forceinline__ KeyTile Tile(int32_t t, const RowKeys& seen) const {
    const bool is_text = IsText(t);
    const int32_t first = First(t);
    const int32_t end = first + kTileKeys;
    KeyTile tile{.first = first, .is_text = is_text};
    if (first >= (is_text ? text_full.begin : summary_full.begin) &&
        end <= (is_text ? text_full.end : summary_full.end)) {
      return tile;
    }
    const int32_t middle = first + kTileKeys / 2;
    const int32_t seen_begin = is_text ? seen.text.begin : seen.summary.begin;
    const int32_t seen_end = is_text ? seen.text.end : seen.summary.end;
    const bool in_first = seen_begin < middle && seen_end > first;
    const bool in_second = seen_begin < end && seen_end > middle;
    tile.masked = true;
    tile.half = !(in_first && in_second);
    tile.second_half = in_second && !in_first;
    tile.first = tile.second_half ? middle : first;
    return tile;
  }
};

__device__ __forceinline__ Range WarpUnion(const Range& mine) {
  return {__reduce_min_sync(0xffffffff, mine.begin), __reduce_max_sync(0xffffffff, mine.end)};
}

__device__ __forceinline__ Range WarpIntersection(const Range& mine) {
  return {__reduce_max_sync(0xffffffff, mine.begin), __reduce_min_sync(0xffffffff, mine.end)};
}

__device__ __forceinline__ void Extend(Range& range, const Range& other) {
  if (other.end > other.begin) {
    range.begin = min(range.begin, other.begin);
    range.end = max(range.end, other.end);
  }
}

__device__ __forceinline__ void Intersect(Range& range, const Range& other) {
  range.begin = max(range.begin, other.begin);
  range.end = min(range.end, other.end);
}

// A plan as a warp makes it: lane l holds the keys of rows l, l + 32, l + 64 and l + 96.
struct PlannedItem {
  RowKeys rows[kTileRows / 32];
  RowKeys seen[2];  // by some row of each half of the rows
  QueryTilePlan plan;
};

// By a whole warp.
__device__ __forceinline__ void PlanTile(const QueryProblem& problem, const QueryItem& item, PlannedItem& planned) {
  QueryTilePlan& plan = planned.plan;
  plan = {{INT_MAX, 0}, {0, INT_MAX}, {INT_MAX, 0}, {0, INT_MAX}};
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    RowKeys seen{{INT_MAX, 0}, {INT_MAX, 0}};
#pragma unroll
    for (int j = 2 * group; j < 2 * group + 2; ++j) {
      const auto i = static_cast<int32_t>(item.first + 32 * j + threadIdx.x % 32);
      RowKeys keys{};
      if (i < problem.queries.end) {
        keys.text = problem.layout.TextKeys(problem.window, item.sequence, i);
        keys.summary = problem.layout.SummaryKeys(problem.window, item.sequence, i);
      }
      planned.rows[j] = keys;
      if (keys.text.size() > 0) {
        Extend(seen.text, keys.text);
        Extend(seen.summary, keys.summary);
        Intersect(plan.text_full, keys.text);
        Intersect(plan.summary_full, keys.summary);
      }
    }
    seen = {WarpUnion(seen.text), WarpUnion(seen.summary)};
    Extend(plan.text, seen.text);
    Extend(plan.summary, seen.summary);
    planned.seen[group] = seen;
  }
  plan.text_full = WarpIntersection(plan.text_full);
  plan.summary_full = WarpIntersection(plan.summary_full);
  if (plan.text.size() == 0) {  // padding only: a tile whose results are not used, so that every item has one
    plan.text = {item.first, item.first + 1};
  }
}

}  // namespace ksa::cuda_attention::wgmma
