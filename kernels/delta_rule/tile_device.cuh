// Products of tiles of fp32 numbers in shared memory by tensor cores: mma.sync m16n8k8 on tf32.
//
// With one term factors are rounded to tf32 (11 bits), which bf16 numbers survive whole. With three each factor is a
// sum of two tf32 numbers, whose products give fp32 but for its last bits. Sums are fp32, in an order that is fixed.
#pragma once

#include <cstdint>

#include "kernels/device/mma.cuh"

namespace ksa::cuda_delta {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / 32;

// Queues a copy of 16 bytes.
__device__ inline void CopyPiece(const float* from, float* to) {
  device::CopyAsync(device::SharedAddress(to), from);
}

[[nodiscard]] __device__ inline uint32_t RoundToTf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
}

// c += a · b. Fragments, with g = lane / 4 and t = lane % 4: a[0] row g, column t; a[1] row g + 8; a[2], a[3] the same
// 4 columns further; b[0] row t, column g; b[1] row t + 4; c[0], c[1] row g, columns 2t and 2t + 1; c[2], c[3] row g
// + 8.
__device__ inline void MultiplyAddTf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <int N>
struct Fragment {
  uint32_t high[N];
  uint32_t low[N];

  template <int kTerms>
  __device__ void Set(int i, float x) {
    high[i] = RoundToTf32(x);
    if constexpr (kTerms == 3) {
      low[i] = RoundToTf32(x - __uint_as_float(high[i]));
    }
  }
};

// A tile of rows kPitch apart, as it lies and transposed.
template <int kPitch>
struct Tile {
  const float* data;

  [[nodiscard]] __device__ float operator()(int i, int j) const { return data[i * kPitch + j]; }
};

template <int kPitch>
struct TransposedTile {
  const float* data;

  [[nodiscard]] __device__ float operator()(int i, int j) const { return data[j * kPitch + i]; }
};

// With rows or columns times a factor each.
template <typename T>
struct RowsTimes {
  T tile;
  const float* factor;

  [[nodiscard]] __device__ float operator()(int i, int j) const { return factor[i] * tile(i, j); }
};

template <typename T>
struct ColumnsTimes {
  T tile;
  const float* factor;

  [[nodiscard]] __device__ float operator()(int i, int j) const { return factor[j] * tile(i, j); }
};

// Which part of a product [kRows, kColumns] a warp has: 16 rows from `row` on, and kTiles times 8 columns from `column`
// on. The warps of a block have all of it.
template <int kRows, int kColumns>
struct Part {
  static constexpr int kRowTiles = kRows / 16;
  static constexpr int kAcross = kWarps / kRowTiles;  // warps side by side
  static constexpr int kTiles = kColumns / 8 / kAcross;
  static_assert(kRows % 16 == 0 && kWarps % kRowTiles == 0 && kTiles * kAcross * 8 == kColumns);

  float c[kTiles][4];

  [[nodiscard]] static __device__ int Row() { return static_cast<int>(threadIdx.x) / 32 % kRowTiles * 16; }

  [[nodiscard]] static __device__ int Column() { return static_cast<int>(threadIdx.x) / 32 / kRowTiles * (kTiles * 8); }

  __device__ void Clear() {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        c[n][i] = 0.0F;
      }
    }
  }

  __device__ void Subtract(const Part& other) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        c[n][i] -= other.c[n][i];
      }
    }
  }

  // += a [kRows, kDepth] · b [kDepth, kColumns]
  template <int kTerms, int kDepth, typename A, typename B>
  __device__ void Add(const A& a, const B& b) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
    const int t = lane % 4;
    const int row = Row() + g;
    const int column = Column() + g;
#pragma unroll 4
    for (int k = t; k < kDepth; k += 8) {
      Fragment<4> left;
      left.Set<kTerms>(0, a(row, k));
      left.Set<kTerms>(1, a(row + 8, k));
      left.Set<kTerms>(2, a(row, k + 4));
      left.Set<kTerms>(3, a(row + 8, k + 4));
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        Fragment<2> right;
        right.Set<kTerms>(0, b(k, column + 8 * n));
        right.Set<kTerms>(1, b(k + 4, column + 8 * n));
        if constexpr (kTerms == 1) {
          MultiplyAddTf32(c[n], left.high, right.high);
        } else {  // apart from the sum, for a tensor core drops last bits where it should round
          float step[4] = {0.0F, 0.0F, 0.0F, 0.0F};
          MultiplyAddTf32(step, left.low, right.high);
          MultiplyAddTf32(step, left.high, right.low);
          MultiplyAddTf32(step, left.high, right.high);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            c[n][i] += step[i];
          }
        }
      }
    }
  }

  // function(row, column, element) for each that this thread has.
  template <typename Function>
  __device__ void ForEach(const Function& function) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        function(Row() + lane / 4 + i / 2 * 8, Column() + 8 * n + lane % 4 * 2 + i % 2, c[n][i]);
      }
    }
  }

  // sums[0], of row Row() + lane / 4, and sums[1], of the row 8 further, += function(row, column, element) over the
  // columns that this thread has.
  template <typename Function>
  __device__ void AddRowSums(float (&sums)[2], const Function& function) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums[i / 2] += function(Row() + lane / 4 + i / 2 * 8, Column() + 8 * n + lane % 4 * 2 + i % 2, c[n][i]);
      }
    }
  }
};

// What AddRowSums left in the threads of a part of 64 rows, summed over the lanes of a row: shared[w][row] of the w-th
// of the warps that share the row. A barrier follows before it is read.
template <typename P>
__device__ void StoreRowSums(float (&sums)[2], float (*shared)[64]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sums[half] += __shfl_xor_sync(0xffffffffU, sums[half], 1);
    sums[half] += __shfl_xor_sync(0xffffffffU, sums[half], 2);
    if (lane % 4 == 0) {
      shared[static_cast<int>(threadIdx.x) / 32 / P::kRowTiles][P::Row() + lane / 4 + 8 * half] = sums[half];
    }
  }
}

}  // namespace ksa::cuda_delta
