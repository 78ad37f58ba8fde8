// Tensor cores and asynchronous copies as sm_80 has them: mma.sync m16n8k16 on bf16, ldmatrix, cp.async. Everything
// here is called by whole warps, except the copies.
//
// Fragments, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   a[0] rows g, columns 2t and 2t + 1; a[1] rows g + 8; a[2], a[3] the same 8 columns further
//   b0   rows (of k) 2t and 2t + 1, column g; b1 8 rows further
//   c[0], c[1] row g, columns 2t and 2t + 1; c[2], c[3] row g + 8
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/device/ptx.cuh"

namespace ksa::device {

// Queues a copy of 16 bytes to shared memory; both addresses are multiples of 16.
__device__ inline void CopyAsync(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared), "l"(global) : "memory");
}

// The same, or 16 zeros where `valid` is false, and nothing is read.
__device__ inline void CopyAsyncOrZeros(uint32_t shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}

// CopyAsync for 4 bytes.
__device__ inline void CopyWordAsync(uint32_t shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(shared), "l"(global) : "memory");
}

// Ends a group of copies of this thread.
__device__ inline void CommitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Until at most the newest `kLeft` groups of this thread are still under way.
template <int kLeft>
__device__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements. Lane l gives the address of row l % 8 of matrix l / 8; it gets elements
// (g, 2t), (g, 2t + 1) of each, or with Transposed elements (2t, g), (2t + 1, g).
__device__ inline void LoadMatrices(uint32_t shared, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared)
               : "memory");
}

__device__ inline void LoadMatricesTransposed(uint32_t shared, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared)
               : "memory");
}

// c += a · b
__device__ inline void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A tile of rows of kDim bf16 elements in shared memory, kDim a multiple of 64. Piece c (16 bytes) of row r lies where
// c ^ (r % 8) would without swizzling, so that eight rows' pieces c are in different banks.
//
// Fragments are addressed from a place that depends on the lane alone: a step along a row flips bits of it, whatever
// the swizzling, and 16 rows further is a constant.
template <int kDim>
struct SwizzledTile {
  static constexpr int kPieces = kDim / 8;
  static constexpr uint32_t kRowBytes = kDim * 2;

  uint32_t base;  // shared address, a multiple of kRowBytes and of 128

  // `place` 16·step columns further along its row: bits are flipped among 64 columns, and where a row is no power of
  // two long, blocks of 64 columns are added.
  [[nodiscard]] static __device__ uint32_t Along(uint32_t place, int step) {
    if constexpr ((kDim & (kDim - 1)) == 0) {
      return place ^ static_cast<uint32_t>(32 * step);
    } else {
      return (place ^ static_cast<uint32_t>(32 * (step % 4))) + static_cast<uint32_t>(128 * (step / 4));
    }
  }

  [[nodiscard]] __device__ uint32_t Piece(int row, int piece) const {
    return base + static_cast<uint32_t>(row) * kRowBytes + static_cast<uint32_t>((piece ^ (row % 8)) * 16);
  }

  // Where fragments a of the rows from `row` on start, `row` a multiple of 8.
  [[nodiscard]] __device__ uint32_t PlaceA(int row) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return Piece(row + lane % 16, lane / 16);
  }

  // Fragment a of 16 rows and columns [16·step, 16·step + 16).
  static __device__ void LoadA(uint32_t place, int step, uint32_t (&a)[4]) { LoadMatrices(Along(place, step), a); }

  [[nodiscard]] __device__ uint32_t PlaceTransposedB() const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return Piece(lane / 16 * 8 + lane % 8, lane / 8 % 2);
  }

  // Fragments b of the transposed tile: its columns [row, row + 16), `row` a multiple of 16, and rows
  // [16·step, 16·step + 16). b[0], b[1] are of the first 8 columns.
  static __device__ void LoadTransposedB(uint32_t place, int row, int step, uint32_t (&b)[4]) {
    LoadMatrices(Along(place, step) + static_cast<uint32_t>(row) * kRowBytes, b);
  }

  [[nodiscard]] __device__ uint32_t PlaceB() const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    return Piece(lane % 16, lane / 16);
  }

  // Fragments b of the tile as it is: rows [16·step, 16·step + 16), columns [column, column + 16), `column` a multiple
  // of 16. b[0], b[1] are of the first 8 columns.
  static __device__ void LoadB(uint32_t place, int step, int column, uint32_t (&b)[4]) {
    LoadMatricesTransposed(Along(place, column / 16) + static_cast<uint32_t>(step) * 16 * kRowBytes, b);
  }
};

}  // namespace ksa::device
