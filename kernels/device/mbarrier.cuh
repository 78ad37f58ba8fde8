// Barriers in shared memory that threads and asynchronous copies arrive at (PTX ISA, "mbarrier"), the fences between
// ordinary accesses and those of the copy engine and the tensor cores, and the numbered barriers of a block.
//
// A barrier has phases 0, 1, 2, ...; Wait(barrier, parity) returns once the phase with that parity is over, so a fresh
// barrier lets Wait(barrier, 1) pass and holds Wait(barrier, 0).
#pragma once

#include <cstdint>

#include "kernels/device/ptx.cuh"

namespace ksa::device {

// A phase is over after `count` arrivals and all the bytes they announced. One thread initialises; then
// FenceBarrierInit by it, then a barrier of the block, before anybody uses it.
__device__ __forceinline__ void InitBarrier(uint64_t* barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(count) : "memory");
}

// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives, and announces bytes that asynchronous copies will bring to this phase.
__device__ __forceinline__ void ArriveExpectBytes(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// Whether the phase with this parity is over; may sleep a little before it answers no.
__device__ __forceinline__ bool TryWait(uint64_t* barrier, uint32_t parity) {
  uint32_t over = 0;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(over)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return over != 0;
}

__device__ __forceinline__ void Wait(uint64_t* barrier, uint32_t parity) {
  while (!TryWait(barrier, parity)) {
  }
}

// Numbered barriers of a block, 0 (__syncthreads) to 15: `threads` threads, whole warps, take part.
__device__ __forceinline__ void NamedSync(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Takes part without waiting.
__device__ __forceinline__ void NamedArrive(uint32_t id, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace ksa::device
