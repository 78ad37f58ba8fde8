// The text rows in the order of their token ids, rows with one id in ascending order.
#pragma once

#include <cstdint>

#include "kernels/core/cuda.h"

namespace ksa::cuda::embedding {

// .x: the table row of the id, or the number of table rows for an id outside the table; .y: the row.
using Entry = int2;

inline constexpr int kOrderThreads = 1024;
inline constexpr int kDigitBits = 8;
inline constexpr int kDigits = 1 << kDigitBits;

// Passes of the sort below for keys up to `largest`.
[[nodiscard]] inline int OrderPasses(int64_t largest) {
  int passes = 1;
  while (largest >> (passes * kDigitBits) != 0) {
    ++passes;
  }
  return passes;
}

// Where the rows of each warp go: first[digit] is the place of the digit's first row, counts[warp][digit] how many rows
// with the digit the warps before have.
struct OrderState {
  int counts[kOrderThreads / 32][kDigits];
  int first[kDigits];
};

// counts of all warps -> sums over the warps before, and first.
static __device__ void ScanCounts(OrderState& state) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < kDigits) {
    int sum = 0;
    for (int w = 0; w < kOrderThreads / 32; ++w) {
      const int count = state.counts[w][t];
      state.counts[w][t] = sum;
      sum += count;
    }
    state.first[t] = sum;
  }
  __syncthreads();
  if (t < 32) {  // lane t has digits [8t, 8t + 8)
    constexpr int kEach = kDigits / 32;
    int own = 0;
    for (int i = 0; i < kEach; ++i) {
      own += state.first[t * kEach + i];
    }
    int before = own;
    for (int offset = 1; offset < 32; offset *= 2) {
      const int lower = __shfl_up_sync(0xffffffffU, before, offset);
      before += t >= offset ? lower : 0;
    }
    before -= own;
    for (int i = 0; i < kEach; ++i) {
      const int count = state.first[t * kEach + i];
      state.first[t * kEach + i] = before;
      before += count;
    }
  }
  __syncthreads();
}

// A stable counting sort by one digit after the other, in one block: warp w takes the w-th part of the rows, 32 at a
// time, in order. What it leaves depends on the ids alone. `even` and `odd` have room for n entries; the result is in
// `odd` after an odd number of passes, else in `even`. The time is the same whatever the ids are.
static __global__ void __launch_bounds__(kOrderThreads)
    TokenOrderKernel(const int32_t* ids, int n, int64_t first_id, int table_rows, int passes, Entry* even, Entry* odd) {
  constexpr int kWarps = kOrderThreads / 32;
  constexpr int kBatch = 4;  // loads on their way at once
  __shared__ OrderState state;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int part = (n + kWarps * 32 - 1) / (kWarps * 32) * 32;
  const int begin = min(n, warp * part);
  const int end = min(n, begin + part);
  int* counts = state.counts[warp];
  for (int pass = 0; pass < passes; ++pass) {
    const Entry* from = pass % 2 == 0 ? even : odd;
    Entry* to = pass % 2 == 0 ? odd : even;
    const auto load = [&](int i) {
      if (i >= end) {
        return Entry{-1, 0};
      }
      if (pass > 0) {
        return from[i];
      }
      const int64_t row = ids[i] - first_id;
      return Entry{row >= 0 && row < table_rows ? static_cast<int>(row) : table_rows, i};
    };
    const auto digit_of = [&](const Entry& entry) { return entry.x >> (pass * kDigitBits) & (kDigits - 1); };
    for (int d = lane; d < kDigits; d += 32) {
      counts[d] = 0;
    }
    __syncwarp();
    for (int i = begin + lane; i < end; i += 32) {
      atomicAdd(&counts[digit_of(load(i))], 1);  // whole numbers: any order gives the same
    }
    __syncthreads();
    ScanCounts(state);
    for (int i = begin; i < end; i += 32 * kBatch) {
      Entry entries[kBatch];
#pragma unroll
      for (int u = 0; u < kBatch; ++u) {
        entries[u] = load(i + u * 32 + lane);
      }
#pragma unroll
      for (int u = 0; u < kBatch; ++u) {
        const bool valid = entries[u].x >= 0;
        const int digit = valid ? digit_of(entries[u]) : kDigits;  // lanes without an entry keep to themselves
        const unsigned peers = __match_any_sync(0xffffffffU, digit);
        const int rank = __popc(peers & ((1U << lane) - 1));
        if (valid) {
          to[state.first[digit] + counts[digit] + rank] = entries[u];
        }
        __syncwarp();
        if (valid && rank == 0) {
          counts[digit] += __popc(peers);
        }
        __syncwarp();
      }
    }
    __syncthreads();
  }
}

}  // namespace ksa::cuda::embedding
