#include <cstdint>

#include "kernels/attention/wgmma/keys_plan.cuh"

namespace ksa::cuda_attention::wgmma {
namespace {

constexpr int kWarps = kTileKeys / 32;

// What readers of several keys have in common.
struct RangeBounds {
  int32_t begin = INT32_MAX;  // union
  int32_t end = 0;
  int32_t last_begin = 0;  // intersection
  int32_t first_end = INT32_MAX;

  __device__ void Add(const RangeBounds& other) {
    begin = min(begin, other.begin);
    end = max(end, other.end);
    last_begin = max(last_begin, other.last_begin);
    first_end = min(first_end, other.first_end);
  }

  [[nodiscard]] __device__ RangeBounds OverWarp() const {
    constexpr unsigned kAll = 0xffffffffU;
    return {__reduce_min_sync(kAll, begin),
            __reduce_max_sync(kAll, end),
            __reduce_max_sync(kAll, last_begin),
            __reduce_min_sync(kAll, first_end)};
  }
};

// Of [begin, end), which is empty when the key is read by rows of the other kind only.
__device__ RangeBounds BoundsOf(int32_t begin, int32_t end) {
  return begin < end ? RangeBounds{begin, end, begin, end} : RangeBounds{INT32_MAX, 0, begin, begin};
}

// Readers of key `key` of a sequence: text queries [x, y), summary queries [z, w).
__device__ int4 ReadersOfKey(const Problem& problem, bool summary, int32_t sequence, int32_t key) {
  const SummaryLayout& layout = problem.layout;
  const Range text = summary ? layout.TextReadersOfSummary(problem.window, sequence, key)
                             : layout.TextReadersOfText(problem.window, sequence, key);
  Range summaries;
  if (problem.query_summaries) {
    summaries = summary ? layout.SummaryReadersOfSummary(key) : layout.SummaryReadersOfText(sequence, key);
  }
  return {text.begin, text.end, summaries.begin, summaries.end};
}

// One thread: a segment of the queries from its warps' bounds.
__device__ QuerySegment MakeSegment(const RangeBounds (&bounds)[kWarps], int64_t origin, bool backwards) {
  QuerySegment segment{.origin = static_cast<int32_t>(origin)};
  RangeBounds all;
  for (int consumer = 0; consumer < kConsumers; ++consumer) {
    RangeBounds own;
    for (int warp = 0; warp < kWarps / kConsumers; ++warp) {
      own.Add(bounds[consumer * (kWarps / kConsumers) + warp]);
    }
    segment.seen[consumer] = {own.begin, own.end, own.last_begin, own.first_end};
    all.Add(own);
  }
  segment.blocks = all.begin < all.end ? CeilDiv(all.end - all.begin, kBlockQueries) : 0;
  segment.first = backwards ? all.end - kBlockQueries : all.begin;
  segment.step = backwards ? -kBlockQueries : kBlockQueries;
  return segment;
}

// Sum over the block's threads.
__device__ int32_t BlockSum(int32_t x) {
  __shared__ int32_t sums[kWarps];
  const int32_t sum = __reduce_add_sync(0xffffffffU, x);
  __syncthreads();
  sums[threadIdx.x / 32] = sum;
  __syncthreads();
  int32_t all = 0;
  for (const int32_t of_warp : sums) {
    all += of_warp;
  }
  return all;
}

// How many items, and partial sums, come before a tile's.
struct Places {
  int32_t items;
  int32_t slots;
};

__device__ Places FindPlaces(const KeyWork& work, int32_t tile) {
  int32_t items = 0;
  int32_t slots = 0;
  for (auto t = static_cast<int32_t>(threadIdx.x); t < tile; t += kTileKeys) {
    const int32_t parts = work.Parts(t);
    items += parts;
    slots += parts > 1 ? parts : 0;
  }
  items = BlockSum(items);
  slots = BlockSum(slots);
  return {items * work.columns(), slots * work.columns()};
}

// Where part `part` of a tile begins, and its blocks.
__device__ BlockCursor BeginOfPart(const KeyTilePlan& plan, int32_t part, int32_t queries_per_kv) {
  const int32_t text = queries_per_kv * plan.segment[0].blocks;
  const int32_t all = text + queries_per_kv * plan.segment[1].blocks;
  const int32_t each = all / plan.parts;
  const int32_t longer = all % plan.parts;  // parts with one block more
  const int32_t place = part * each + min(part, longer);
  const int32_t segment = place < text ? 0 : 1;
  const int32_t inside = place < text ? place : place - text;
  const int32_t blocks = max(1, plan.segment[segment].blocks);
  return {each + (part < longer ? 1 : 0), segment, inside / blocks, inside % blocks};
}

}  // namespace

__global__ void __launch_bounds__(kTileKeys)
    PlanKeysKernel(const __grid_constant__ KeyWork work, KeyTilePlan* plans, WorkItem* items, int32_t* counter) {
  const SummaryLayout& layout = work.problem.layout;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  // All along x: tiles may be more than the 65,535 blocks that a grid has along y.
  const auto sequence = static_cast<int32_t>(blockIdx.x) % layout.sequences;
  const auto tile = static_cast<int32_t>(blockIdx.x) / layout.sequences;
  const bool summary = tile < work.summary_tiles;
  const int32_t first_key = (summary ? tile : tile - work.summary_tiles) * kTileKeys;
  const int32_t keys = min((summary ? layout.live_summaries() : layout.text_tokens) - first_key, kTileKeys);
  KeyTilePlan& plan = plans[int64_t{tile} * layout.sequences + sequence];

  int4 readers = {0, 0, 0, 0};
  if (thread < keys) {
    readers = ReadersOfKey(work.problem, summary, sequence, first_key + thread);
  }
  plan.readers[thread] = readers;
  // Keys without any reader do not count: whatever is added to them is thrown away.
  const bool counts = readers.x < readers.y || readers.z < readers.w;
  __shared__ RangeBounds bounds[2][kWarps];
  bounds[0][thread / 32] = (counts ? BoundsOf(readers.x, readers.y) : RangeBounds{}).OverWarp();
  bounds[1][thread / 32] = (counts ? BoundsOf(readers.z, readers.w) : RangeBounds{}).OverWarp();

  const Places places = FindPlaces(work, tile);

  if (thread == 0) {
    if (blockIdx.x == 0) {
      *counter = 0;
    }
    // Summaries are seen by all that follows: from the end, tiles that start together read the same rows together.
    plan.segment[0] = MakeSegment(bounds[0], layout.TextRow(sequence, 0) - layout.query_begin, summary);
    plan.segment[1] = MakeSegment(bounds[1], layout.SummaryRow(sequence, 0), false);
    plan.key_row =
        static_cast<int32_t>(summary ? layout.SummaryRow(sequence, first_key) : layout.TextRow(sequence, first_key));
    plan.keys = keys;
    plan.parts = work.Parts(tile);
    plan.first_slot = places.slots + sequence * work.problem.groups;
  }
  __syncthreads();
  for (int32_t i = thread; i < plan.parts * work.problem.groups; i += kTileKeys) {
    const int32_t part = i / work.problem.groups;
    const int32_t group = i % work.problem.groups;
    const int32_t place = part * work.columns() + sequence * work.problem.groups + group;
    items[places.items + place] = {.plan = tile * layout.sequences + sequence,
                                   .group = group,
                                   .slot = plan.parts > 1 ? places.slots + place : -1,
                                   .unused = 0,
                                   .begin = BeginOfPart(plan, part, work.problem.queries_per_kv)};
  }
}

}  // namespace ksa::cuda_attention::wgmma
