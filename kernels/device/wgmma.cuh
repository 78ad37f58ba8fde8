// Matrix products of a warpgroup, 4 warps, m64nNk16, bf16 in, fp32 accumulators (PTX ISA, "wgmma"; sm_90a only).
//
// Operands in shared memory are tiles [rows][columns] of bf16 as the maps of tensor_map.cuh bring them: blocks of 64
// columns, i.e. 128-byte rows with 128-byte swizzle, one block behind the other, each 1024-byte aligned. Of such a tile
//   the depth runs along the columns ("K-major"; no transpose):
//       Descriptor(tile + block of columns · rows · 128 + (16-column step in the block) · 32, 16, 1024)
//   the depth runs along the rows ("MN-major"; transpose):
//       Descriptor(tile + 16-row step · 2048, rows · 128, 1024)
//
// Layout of accumulators: thread t of the warpgroup (warp w = t / 32, lane l = t % 32) holds, in d[4·j + 2·i + c], the
// element of row 16·w + l / 4 + 8·i and column 8·j + 2·(l % 4) + c. Operand A in registers: a[2·j + i] holds the pair
// of bf16 at row 16·w + l / 4 + 8·i and columns 8·j + 2·(l % 4) and the next, j = 0, 1: an accumulator's columns in
// order.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/device/mbarrier.cuh"

namespace ksa::device {

// Of an operand with 128-byte swizzle. `leading_bytes`: from one block of 64 columns to the next where the depth runs
// along the rows; else not used. `stride_bytes`: from one group of 8 rows to the next.
__device__ __forceinline__ uint64_t Descriptor(const void* shared, uint32_t leading_bytes, uint32_t stride_bytes) {
  return static_cast<uint64_t>((SharedAddress(shared) & 0x3FFFF) >> 4) |
         (static_cast<uint64_t>((leading_bytes & 0x3FFFF) >> 4) << 16) |
         (static_cast<uint64_t>((stride_bytes & 0x3FFFF) >> 4) << 32) | (uint64_t{1} << 62);
}

// A descriptor moved by a multiple of 16 bytes.
__device__ __forceinline__ uint64_t Advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

// Before the first product, and wherever ordinary code has written registers that a product reads or adds to.
__device__ __forceinline__ void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Closes a group of products.
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving uses of these registers across this place: put it behind the wait for what writes
// them.
template <int kCount>
__device__ __forceinline__ void Pin(float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(values[i])::"memory");
  }
}

template <int kCount>
__device__ __forceinline__ void Pin(uint32_t (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+r"(values[i])::"memory");
  }
}

// Registers a thread of the warpgroup may use from here on, a multiple of 8; the block was launched with a fixed
// number.
template <int kRegisters>
__device__ __forceinline__ void GrowRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void ShrinkRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// x[i] of lane l of four neighbouring lanes becomes x[l % 4] of lane i: two fragments' columns in a row become 16
// bytes.
__device__ __forceinline__ void TransposeQuad(uint32_t (&x)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (threadIdx.x & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) == 0) {
        const uint32_t got = __shfl_xor_sync(0xffffffff, upper ? x[i] : x[i + bit], bit);
        x[i] = upper ? got : x[i];
        x[i + bit] = upper ? x[i + bit] : got;
      }
    }
  }
}

#define KSA_WGMMA_D8(i)                                                                                 \
  "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3]), "+f"(d[(i) + 4]), "+f"(d[(i) + 5]), \
      "+f"(d[(i) + 6]), "+f"(d[(i) + 7])
#define KSA_WGMMA_D16(i) KSA_WGMMA_D8(i), KSA_WGMMA_D8((i) + 8)
#define KSA_WGMMA_D32(i) KSA_WGMMA_D8(i), KSA_WGMMA_D8((i) + 8), KSA_WGMMA_D8((i) + 16), KSA_WGMMA_D8((i) + 24)
#define KSA_WGMMA_R0_15 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define KSA_WGMMA_R0_31                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, " \
  "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define KSA_WGMMA_R32_63                                                                  \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define KSA_WGMMA_R64_95                                                                  \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, " \
  "%81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"

// d [64, N] = (accumulate ? d : 0) + A [64, 16] · B [16, N]; both operands in shared memory, by their descriptors. A's
// depth runs along its rows with kTransposeA, B's with kTransposeB.
template <int N, bool kTransposeB = false, bool kTransposeA = false>
__device__ __forceinline__ void WgmmaSs(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N == 32 || N == 64 || N == 128);
  if constexpr (N == 32) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" KSA_WGMMA_R0_15
        "}, "
        "%16, %17, p, 1, 1, %19, %20;\n}\n"
        : KSA_WGMMA_D16(0)
        : "l"(a), "l"(b), "r"(static_cast<int32_t>(accumulate)), "n"(int{kTransposeA}), "n"(int{kTransposeB}));
  } else if constexpr (N == 64) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" KSA_WGMMA_R0_31
        "}, "
        "%32, %33, p, 1, 1, %35, %36;\n}\n"
        : KSA_WGMMA_D32(0)
        : "l"(a), "l"(b), "r"(static_cast<int32_t>(accumulate)), "n"(int{kTransposeA}), "n"(int{kTransposeB}));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" KSA_WGMMA_R0_31 ", " KSA_WGMMA_R32_63
        "}, "
        "%64, %65, p, 1, 1, %67, %68;\n}\n"
        : KSA_WGMMA_D32(0), KSA_WGMMA_D32(32)
        : "l"(a), "l"(b), "r"(static_cast<int32_t>(accumulate)), "n"(int{kTransposeA}), "n"(int{kTransposeB}));
  }
}

// The same with A in registers.
template <int N, bool kTransposeB = false>
__device__ __forceinline__ void WgmmaRs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(N == 64 || N == 128 || N == 192);
  if constexpr (N == 192) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %101, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" KSA_WGMMA_R0_31 ", " KSA_WGMMA_R32_63
        ", " KSA_WGMMA_R64_95
        "}, "
        "{%96, %97, %98, %99}, %100, p, 1, 1, %102;\n}\n"
        : KSA_WGMMA_D32(0), KSA_WGMMA_D32(32), KSA_WGMMA_D32(64)
        : "r"(a[0]),
          "r"(a[1]),
          "r"(a[2]),
          "r"(a[3]),
          "l"(b),
          "r"(static_cast<int32_t>(accumulate)),
          "n"(int{kTransposeB}));
  } else if constexpr (N == 64) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" KSA_WGMMA_R0_31
        "}, "
        "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"
        : KSA_WGMMA_D32(0)
        : "r"(a[0]),
          "r"(a[1]),
          "r"(a[2]),
          "r"(a[3]),
          "l"(b),
          "r"(static_cast<int32_t>(accumulate)),
          "n"(int{kTransposeB}));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" KSA_WGMMA_R0_31 ", " KSA_WGMMA_R32_63
        "}, "
        "{%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}\n"
        : KSA_WGMMA_D32(0), KSA_WGMMA_D32(32)
        : "r"(a[0]),
          "r"(a[1]),
          "r"(a[2]),
          "r"(a[3]),
          "l"(b),
          "r"(static_cast<int32_t>(accumulate)),
          "n"(int{kTransposeB}));
  }
}

#undef KSA_WGMMA_D8
#undef KSA_WGMMA_D16
#undef KSA_WGMMA_D32
#undef KSA_WGMMA_R0_15
#undef KSA_WGMMA_R0_31
#undef KSA_WGMMA_R32_63
#undef KSA_WGMMA_R64_95

}  // namespace ksa::device
