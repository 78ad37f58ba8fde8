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
#include "kernels/device/tma.cuh"
#include "kernels/device/wgmma.cuh"

namespace ksa::cuda_attention::wgmma {

inline constexpr int kTileRows = 128;  // queries of a block, 64 of each of its two consumer warpgroups
inline constexpr int kTileKeys = 128;
inline constexpr int kBlockThreads = 384;  // a warpgroup that copies and two that compute
inline constexpr int kStages = 2;          // tiles of keys, and of values, in shared memory
inline constexpr int kConsumerWarps = 8;

// What to do, the same for all blocks.
struct QueryProblem {
  SummaryLayout layout;
  AttentionWindow window;
  int32_t heads = 0;
  int32_t heads_per_key_head = 1;
  int32_t tiles = 0;            // of a sequence
  int32_t units = 0;            // heads of all sequences
  int32_t units_per_group = 1;  // whose keys share the L2 cache
  int32_t items = 0;
  float scale = 0;       // of scores
  float scale_log2 = 0;  // the same for exponentials of base 2
};

// `tensor_q` [nq, h, e], `tensor_k` [nk, g, e].
[[nodiscard]] QueryProblem MakeQueryProblem(const SummaryLayout& layout,
                                            const AttentionWindow& window,
                                            const TensorView& tensor_q,
                                            const TensorView& tensor_k);

// Blocks of a persistent launch: one a multiprocessor, at most one an item.
[[nodiscard]] int PersistentBlocks(const QueryProblem& problem, const Device& device);

// Whether the image of `kernel` that runs on the current device was compiled for sm_90a, and not, empty, for older
// ones.
[[nodiscard]] bool ImageHasWarpgroupProducts(const void* kernel);

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
  return {unit / problem.heads, unit % problem.heads, tile * kTileRows};
}

// Keys that one query sees; text is empty for a row that sees nothing.
struct alignas(16) RowKeys {
  Range text;
  Range summary;
};

// Keys of a tile of queries: those that some row sees, and those that all rows see which see anything.
struct TilePlan {
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

  // Whether tile t has pairs that are not visible.
  [[nodiscard]] __device__ __forceinline__ bool NeedsMask(int32_t t) const {
    const int32_t first = First(t);
    return first < (IsText(t) ? text_full.begin : summary_full.begin) ||
           first + kTileKeys > (IsText(t) ? text_full.end : summary_full.end);
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

// By a whole warp: the keys of the item's rows, each into rows[0..128), and of the tile.
__device__ __forceinline__ TilePlan PlanTile(const QueryProblem& problem, const QueryItem& item, RowKeys* rows) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  TilePlan plan{{INT_MAX, 0}, {0, INT_MAX}, {INT_MAX, 0}, {0, INT_MAX}};
#pragma unroll 1
  for (int32_t row = lane; row < kTileRows; row += 32) {
    const int32_t i = item.first + row;
    RowKeys keys{};
    if (i < problem.layout.text_tokens) {
      keys.text = problem.layout.TextKeys(problem.window, item.sequence, i);
      keys.summary = problem.layout.SummaryKeys(problem.window, item.sequence, i);
    }
    rows[row] = keys;
    if (keys.text.size() > 0) {
      Extend(plan.text, keys.text);
      Extend(plan.summary, keys.summary);
      Intersect(plan.text_full, keys.text);
      Intersect(plan.summary_full, keys.summary);
    }
  }
  plan.text = WarpUnion(plan.text);
  plan.summary = WarpUnion(plan.summary);
  plan.text_full = WarpIntersection(plan.text_full);
  plan.summary_full = WarpIntersection(plan.summary_full);
  return plan;
}

// A tile of 128 rows of one head: blocks of 64 columns, swizzled (kernels/device/wgmma.cuh).
template <int kHeadDim>
struct alignas(1024) SharedTile {
  static constexpr uint32_t kBlockBytes = kTileRows * 128;
  static constexpr uint32_t kBytes = kHeadDim / 64 * kBlockBytes;
  uint8_t bytes[kBytes];
};

// Shared memory of a block. kQuerySide: tensors that an item brings once (q; or q and dout).
template <int kHeadDim, int kQuerySide>
struct SharedMemory {
  using Tile = SharedTile<kHeadDim>;
  Tile queries[kQuerySide];
  Tile keys[kStages];
  Tile values[kStages];
  Tile result;  // 16 rows of each warp, as StoreRows wants them
  RowKeys rows[kTileRows];
  TilePlan plan;
  uint64_t queries_full;
  uint64_t queries_empty;
  uint64_t keys_full[kStages];
  uint64_t keys_empty[kStages];
  uint64_t values_full[kStages];
  uint64_t values_empty[kStages];
};

template <typename Shared>
__device__ __forceinline__ void InitBarriers(Shared& shared) {
  if (threadIdx.x == 0) {
    device::InitBarrier(&shared.queries_full, 1);
    device::InitBarrier(&shared.queries_empty, kConsumerWarps);
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

// A place in the rings, by the number of tiles before it since the kernel began.
struct RingIndex {
  uint32_t tiles = 0;

  [[nodiscard]] __device__ __forceinline__ uint32_t stage() const { return tiles % kStages; }

  [[nodiscard]] __device__ __forceinline__ uint32_t phase() const { return tiles / kStages % 2; }
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

// The producer warp: for every item of this block its plan and queries, then its keys and values, as slots become free.
template <int kHeadDim, int kQuerySide>
__device__ __forceinline__ void Produce(SharedMemory<kHeadDim, kQuerySide>& shared,
                                        const QueryProblem& problem,
                                        const QueryMaps& maps) {
  constexpr uint32_t kBytes = SharedTile<kHeadDim>::kBytes;
  const bool leader = threadIdx.x % 32 == 0;
  RingIndex ring;
  uint32_t item_phase = 0;
  for (int32_t round = 0;; ++round) {
    const int32_t index = ItemIndex(round, blockIdx.x, gridDim.x);
    if (index >= problem.items) {
      return;
    }
    const QueryItem item = ItemAt(problem, index);
    device::Wait(&shared.queries_empty, item_phase ^ 1);
    item_phase ^= 1;
    const TilePlan plan = PlanTile(problem, item, shared.rows);
    const auto text_row = static_cast<int32_t>(problem.layout.TextRow(item.sequence, 0));
    if (leader) {
      shared.plan = plan;
    }
    __syncwarp();
    if (leader) {
      device::ArriveExpectBytes(&shared.queries_full, kQuerySide * kBytes);
      LoadTile(shared.queries[0], maps.q, &shared.queries_full, item.head, text_row + item.first);
      if constexpr (kQuerySide > 1) {
        LoadTile(shared.queries[1], maps.dout, &shared.queries_full, item.head, text_row + item.first);
      }
      const int32_t key_head = item.head / problem.heads_per_key_head;
      const auto summary_row = static_cast<int32_t>(problem.layout.SummaryRow(item.sequence, 0));
      const int32_t tiles = plan.tiles();
      for (int32_t t = 0; t < tiles; ++t) {
        const int32_t row = (plan.IsText(t) ? text_row : summary_row) + plan.First(t);
        device::Wait(&shared.keys_empty[ring.stage()], ring.phase() ^ 1);
        device::ArriveExpectBytes(&shared.keys_full[ring.stage()], kBytes);
        LoadTile(shared.keys[ring.stage()], maps.k, &shared.keys_full[ring.stage()], key_head, row);
        device::Wait(&shared.values_empty[ring.stage()], ring.phase() ^ 1);
        device::ArriveExpectBytes(&shared.values_full[ring.stage()], kBytes);
        LoadTile(shared.values[ring.stage()], maps.v, &shared.values_full[ring.stage()], key_head, row);
        ++ring.tiles;
      }
    }
    __syncwarp();
  }
}

// --- the consumers' side

__device__ __forceinline__ float Exp2(float x) {
  float y = 0;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// One arrival of this warp: it has read a slot.
__device__ __forceinline__ void ReleaseSlot(uint64_t* empty) {
  if (threadIdx.x % 32 == 0) {
    device::Arrive(empty);
  }
}

// Keeps a wait for products behind the arithmetic that gives `values`, which are never negative: they depend on nothing
// that the wait brings, and the assembler would move the wait before them, so that nothing ran beside the products. It
// does not move it across another barrier's instruction; this one is never executed.
template <int kCount>
__device__ __forceinline__ void HoldWaitFor(const float (&values)[kCount], uint64_t* barrier) {
  float least = values[0];
#pragma unroll
  for (int i = 1; i < kCount; ++i) {
    least = fminf(least, values[i]);
  }
  if (least < -1.0F) {
    device::Arrive(barrier);
  }
}

// scores [64, 128] = rows of `queries` · keysᵀ; `queries` is the descriptor of this warpgroup's 64 rows.
template <int kHeadDim>
__device__ __forceinline__ void IssueScores(float (&scores)[64], uint64_t queries, uint64_t keys) {
  constexpr uint32_t kBlockBytes = SharedTile<kHeadDim>::kBlockBytes;
#pragma unroll
  for (int step = 0; step < kHeadDim / 16; ++step) {
    const uint32_t offset = step / 4 * kBlockBytes + step % 4 * 32;
    device::WgmmaSs<kTileKeys>(scores, device::Advance(queries, offset), device::Advance(keys, offset), step > 0);
  }
}

// sums [64, e] (+)= weights [64, 128] · tile [128, e]; `tile` is the descriptor of a tile whose rows are the depth.
template <int kHeadDim>
__device__ __forceinline__ void IssueWeightedSum(float (&sums)[kHeadDim / 2],
                                                 const uint32_t (&weights)[kTileKeys / 16][4],
                                                 uint64_t tile,
                                                 bool accumulate) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    device::WgmmaRs<kHeadDim, true>(sums, weights[step], device::Advance(tile, step * 2048), accumulate || step > 0);
  }
}

template <int kHeadDim>
__device__ __forceinline__ uint64_t DepthAlongColumns(const SharedTile<kHeadDim>& tile, uint32_t first_row = 0) {
  return device::Descriptor(tile.bytes + first_row * 128, 16, 1024);
}

template <int kHeadDim>
__device__ __forceinline__ uint64_t DepthAlongRows(const SharedTile<kHeadDim>& tile) {
  return device::Descriptor(tile.bytes, SharedTile<kHeadDim>::kBlockBytes, 1024);
}

__device__ __forceinline__ void PackWeights(uint32_t (&weights)[kTileKeys / 16][4], const float (&values)[64]) {
#pragma unroll
  for (int i = 0; i < kTileKeys / 4; ++i) {
    weights[i / 4][i % 4] = device::PackBf16(values[2 * i], values[2 * i + 1]);
  }
}

__device__ __forceinline__ void PinWeights(uint32_t (&weights)[kTileKeys / 16][4]) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    device::Pin(weights[step]);
  }
}

// Sets the scores of pairs that are not visible to -infinity. `rows`: the keys of this thread's two rows; `first`: of
// the tile of text or of summary keys.
__device__ __forceinline__ void MaskScores(float (&scores)[64], const RowKeys (&rows)[2], bool is_text, int32_t first) {
  const auto column = static_cast<int32_t>(first + threadIdx.x % 4 * 2);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int32_t begin = (is_text ? rows[i].text.begin : rows[i].summary.begin) - column;
    const int32_t end = (is_text ? rows[i].text.end : rows[i].summary.end) - column;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& score = scores[4 * j + 2 * i + c];
        score = 8 * j + c >= begin && 8 * j + c < end ? score : -INFINITY;
      }
    }
  }
}

// Stores a warp's 16 rows of results, scaled by factor[i] for this thread's rows, as bf16: through the warp's share of
// `stage`, so that rows leave in whole 16-byte units. `global`: row 0 of the warp; rows from `rows` on are not stored.
template <int kHeadDim>
__device__ __forceinline__ void StoreRows(SharedTile<kHeadDim>& stage,
                                          const float (&results)[kHeadDim / 2],
                                          const float (&factor)[2],
                                          BFloat16* global,
                                          int64_t row_stride,
                                          int32_t rows) {
  constexpr uint32_t kUnits = kHeadDim / 8;  // of 16 bytes, a row
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warp = (threadIdx.x - 128) / 32;
  uint8_t* own = stage.bytes + warp * (kHeadDim * 32);  // [e / 64][16 rows][128 bytes]
#pragma unroll
  for (uint32_t j = 0; j < kHeadDim / 16; ++j) {
    const uint32_t row = lane % 16;
    const uint32_t byte = j % 4 * 32 + lane / 16 * 16;
    const float* part = &results[8 * j];
    device::StoreMatrix(device::SharedAddress(own) + j / 4 * 2048 + device::SwizzledOffset(row, byte),
                        device::PackBf16(part[0] * factor[0], part[1] * factor[0]),
                        device::PackBf16(part[2] * factor[1], part[3] * factor[1]),
                        device::PackBf16(part[4] * factor[0], part[5] * factor[0]),
                        device::PackBf16(part[6] * factor[1], part[7] * factor[1]));
  }
  __syncwarp();
#pragma unroll
  for (uint32_t u = lane; u < 16 * kUnits; u += 32) {
    const uint32_t row = u / kUnits;
    const uint32_t unit = u % kUnits;
    const uint4 value =
        *reinterpret_cast<const uint4*>(own + unit / 8 * 2048 + device::SwizzledOffset(row, unit % 8 * 16));
    if (static_cast<int32_t>(row) < rows) {
      *reinterpret_cast<uint4*>(global + row * row_stride + unit * 8) = value;
    }
  }
  __syncwarp();
}

}  // namespace ksa::cuda_attention::wgmma
