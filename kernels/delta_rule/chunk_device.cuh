// A chunk of 64 rows of one value head in the shared memory of a block; see chunk_cpu.h for the letters. In addition,
// with C the strict lower part of (K K^T) * D:
//
//   X = (I + C beta)^-1, unit lower triangular    W = X e^b K    E = X V - W S0    N = beta E
//
// and backward, with dN the gradient of N: G = X^T (beta dN) is the gradient of V - e^b K S0.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/delta_rule/rule_scratch.h"
#include "kernels/delta_rule/tile_device.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda_delta {

using delta_rule::ChunkCounts;
using delta_rule::kChunkRows;
using delta_rule::Slice;

inline constexpr int kSmall = 32;  // columns of values that a block takes at once where states are beside them
inline constexpr int kWide = 64;

// Pitches of tiles in shared memory: 4 more than the columns, which spreads the rows over the banks.
template <int kColumns>
inline constexpr int kPitchOf = kColumns + 4;

// What every kernel of the family knows. T: type of the activations.
template <typename T>
struct Rule {
  SummaryLayout layout;
  const T* q;
  const T* k;
  const T* v;
  const float* g;
  const float* beta;
  int key_heads;
  int value_heads;
  int dk;
  int dv;
  ChunkCounts counts;
  float scale;  // of q

  float* inverse;
  float* w;
  float* keys;
  float* numbers;
  float* e;
  float* states;
  float* writes;
  float* reads;
  float* state_gradients;
  float* dq;
  float* dk_of_head;
};

// The chunk and value head of a block that takes one of each.
struct ChunkPlace {
  int64_t at;  // of the scratch tensors
  int head;
  int64_t slice;
  int32_t first;  // row of the slice

  template <typename T>
  __device__ ChunkPlace(const Rule<T>& rule, int64_t chunk, int value_head)
      : at(chunk * rule.value_heads + value_head), head(value_head) {
    const int64_t sequence = chunk / rule.counts.all;
    const auto inside = static_cast<int32_t>(chunk % rule.counts.all);
    const bool second = inside >= rule.counts.first;
    slice = SlicesOfSequence(rule.layout) * sequence + (second ? 1 : 0);
    first = (second ? inside - rule.counts.first : inside) * kChunkRows;
  }
};

// The first chunk of a slice, of all.
template <typename T>
[[nodiscard]] __device__ int64_t FirstChunk(const Rule<T>& rule, int64_t slice) {
  const int slices = SlicesOfSequence(rule.layout);
  return slice / slices * rule.counts.all + (slices == 2 && slice % 2 == 1 ? rule.counts.first : 0);
}

// What rows of a chunk see of each other, and of the state.
struct alignas(16) ChunkRows {
  double sums[kChunkRows];   // of g, while they are made
  float b[kChunkRows];       // the sums within a document,
  float b_rest[kChunkRows];  // and what fp32 leaves of them: differences of large sums are what counts
  float beta[kChunkRows];
  float from_state[kChunkRows];  // e^b, or 0 where the row's document began in the chunk
  float to_state[kChunkRows];    // e^(b_last - b), or 0 where the row's document is not the last one
  float real[kChunkRows];        // 1, or 0: padding, or behind the last row
  int32_t start[kChunkRows];     // of the row's document, in rows of the slice
  float kept;                    // of the state that came in
  int32_t rows;

  // Decay from row j to row i, which is not before it.
  [[nodiscard]] __device__ float Decay(int i, int j) const {
    return start[i] == start[j] ? expf((b[i] - b[j]) + (b_rest[i] - b_rest[j])) : 0.0F;
  }

  // By the whole block; ends with a barrier.
  template <typename T>
  __device__ void Make(const Rule<T>& rule, const Slice& slice, int32_t first, int head) {
    const int i = static_cast<int>(threadIdx.x);
    const int32_t count = min(kChunkRows, slice.rows - first);
    if (i < kChunkRows) {
      const bool here = i < count;
      const bool used = here && !rule.layout.IsPadding(slice.sequence, slice.first + first + i);
      const int64_t at = (slice.row + first + i) * rule.value_heads + head;
      real[i] = used ? 1.0F : 0.0F;
      start[i] = here ? slice.DocumentStart(rule.layout, first + i) : INT32_MAX;
      sums[i] = used ? rule.g[at] : 0.0F;
      beta[i] = used ? rule.beta[at] : 0.0F;
    }
    if (i == 0) {
      rows = count;
    }
#pragma unroll
    for (int step = 1; step < kChunkRows; step *= 2) {
      __syncthreads();
      const bool adds = i >= step && i < kChunkRows && start[i - step] == start[i];  // of the same document
      const double before = adds ? sums[i - step] : 0.0;
      __syncthreads();
      if (i < kChunkRows) {
        sums[i] += before;
      }
    }
    __syncthreads();
    if (i < kChunkRows) {
      const bool sees = i < count && start[i] < first;
      b[i] = static_cast<float>(sums[i]);
      b_rest[i] = static_cast<float>(sums[i] - static_cast<double>(b[i]));
      from_state[i] = sees ? expf(b[i] + b_rest[i]) : 0.0F;
      to_state[i] = start[i] == start[count - 1] ? expf(static_cast<float>(sums[count - 1] - sums[i])) : 0.0F;
      if (i == count - 1) {
        kept = from_state[i];
      }
    }
    __syncthreads();
  }
};

// Tiles stand behind it in shared memory, and are written 16 bytes at a time.
static_assert(sizeof(ChunkRows) % 16 == 0);

// Rows of heads of the matrix as a tile [64, kColumns] of fp32, what `change` makes of each; 0 behind `columns`, in
// padding and behind the last row. `first`: the first row's element. Where rows lie as 16 bytes are read, all of a
// thread's reads are under way at once.
template <int kColumns, typename T, typename Change>
__device__ void LoadChanged(
    const ChunkRows& rows, const T* first, int64_t pitch, int columns, float* to, const Change& change) {
  constexpr int kElements = device::kVectorElements<T>;
  constexpr int kAcross = kColumns / kElements;
  constexpr int kPieces = kChunkRows * kAcross / kThreads;
  if (columns >= kColumns && pitch % kElements == 0 && device::IsAligned16(first)) {
    device::Vector<T, kElements> pieces[kPieces];
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int x = static_cast<int>(threadIdx.x) + p * kThreads;
      const int i = min(x / kAcross, rows.rows - 1);
      pieces[p].Load(first + i * pitch + x % kAcross * kElements);
    }
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int x = static_cast<int>(threadIdx.x) + p * kThreads;
      float* place = to + x / kAcross * kPitchOf<kColumns> + x % kAcross * kElements;
      const bool real = rows.real[x / kAcross] != 0.0F;
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        place[e] = real ? change(pieces[p][e]) : 0.0F;
      }
    }
    return;
  }
#pragma unroll 8
  for (int x = static_cast<int>(threadIdx.x); x < kChunkRows * kColumns; x += kThreads) {
    const int i = x / kColumns;
    const int j = x % kColumns;
    const bool there = j < columns && rows.real[i] != 0.0F;
    to[i * kPitchOf<kColumns> + j] = there ? change(static_cast<float>(first[i * pitch + j])) : 0.0F;
  }
}

template <int kColumns, typename T>
__device__ void LoadRows(const ChunkRows& rows, const T* first, int64_t pitch, int columns, float* to) {
  LoadChanged<kColumns>(rows, first, pitch, columns, to, [](float x) { return x; });
}

// The queries' rows, scaled. With one term they are rounded as products round them: gradients of decays are differences
// of products that cancel, if only both have the same factors.
template <int kColumns, int kTerms, typename T>
__device__ void LoadQueries(const ChunkRows& rows, const Rule<T>& rule, int64_t first, float* to) {
  const int64_t pitch = int64_t{1} * rule.key_heads * rule.dk;
  LoadChanged<kColumns>(rows, rule.q + first, pitch, rule.dk, to, [&](float x) {
    const float q = rule.scale * x;
    return kTerms == 1 ? __uint_as_float(RoundToTf32(q)) : q;
  });
}

// Columns [begin, begin + kColumns) of a matrix [kRows or fewer, columns] of scratch; 0 where it has none.
template <int kRows, int kColumns>
__device__ void LoadMatrix(const float* from, int rows, int columns, int begin, float* to) {
  constexpr int kAcross = kColumns / 4;
  constexpr int kPieces = kRows * kAcross / kThreads;
  if (rows == kRows && begin + kColumns <= columns && columns % 4 == 0) {
    float4 pieces[kPieces];
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int x = static_cast<int>(threadIdx.x) + p * kThreads;
      pieces[p] = *reinterpret_cast<const float4*>(from + x / kAcross * columns + begin + x % kAcross * 4);
    }
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int x = static_cast<int>(threadIdx.x) + p * kThreads;
      *reinterpret_cast<float4*>(to + x / kAcross * kPitchOf<kColumns> + x % kAcross * 4) = pieces[p];
    }
    return;
  }
#pragma unroll 8
  for (int x = static_cast<int>(threadIdx.x); x < kRows * kColumns; x += kThreads) {
    const int i = x / kColumns;
    const int j = x % kColumns;
    const bool there = i < rows && begin + j < columns;
    to[i * kPitchOf<kColumns> + j] = there ? from[i * columns + begin + j] : 0.0F;
  }
}

// Queues copies of a tile of kRows rows of kColumns numbers.
template <int kRows, int kColumns>
__device__ void CopyTile(const float* from, float* to) {
  constexpr int kPieces = kColumns / 4;
#pragma unroll
  for (int x = static_cast<int>(threadIdx.x); x < kRows * kPieces; x += kThreads) {
    CopyPiece(from + 4 * x, to + x / kPieces * kPitchOf<kColumns> + x % kPieces * 4);
  }
}

// Where a chunk's rows begin in q and k, and in v.
template <typename T>
[[nodiscard]] __device__ int64_t KeyAt(const Rule<T>& rule, const Slice& slice, const ChunkPlace& place) {
  const int key_head = place.head / (rule.value_heads / rule.key_heads);
  return ((slice.row + place.first) * rule.key_heads + key_head) * rule.dk;
}

template <typename T>
[[nodiscard]] __device__ int64_t ValueAt(const Rule<T>& rule, const Slice& slice, const ChunkPlace& place) {
  return ((slice.row + place.first) * rule.value_heads + place.head) * rule.dv;
}

}  // namespace ksa::cuda_delta
