// Clusters of thread blocks (sm_90 and later): barriers, and reading another block's shared memory.
#pragma once

#include <cstdint>

namespace ksa::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// What was written to shared memory before ClusterArrive is seen by the blocks of the cluster after ClusterWait. All
// threads of all blocks take part.
__device__ inline void ClusterArrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ inline void ClusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The value at the place of `x`, a variable in shared memory, in block `rank` of the cluster.
__device__ inline float ReadFromBlock(const float* x, uint32_t rank) {
  const auto here = static_cast<uint32_t>(__cvta_generic_to_shared(x));
  float value;
  asm volatile(
      "{\n\t.reg .u32 there;\n\t"
      "mapa.shared::cluster.u32 there, %1, %2;\n\t"
      "ld.shared::cluster.f32 %0, [there];\n\t}"
      : "=f"(value)
      : "r"(here), "r"(rank)
      : "memory");
  return value;
}

// Writes 8 bytes to the place of `to`, a variable in shared memory, in block `rank`, where they count towards the phase
// of the barrier at the place of `barrier`. Waits for nothing, unlike the barrier of the cluster, which waits for the
// stores to global memory before it as well.
__device__ inline void SendToBlock(uint64_t value, void* to, uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{\n\t.reg .u32 there, signal;\n\t"
      "mapa.shared::cluster.u32 there, %1, %3;\n\t"
      "mapa.shared::cluster.u32 signal, %2, %3;\n\t"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [there], %0, [signal];\n\t}" ::"l"(value),
      "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "r"(static_cast<uint32_t>(__cvta_generic_to_shared(barrier))),
      "r"(rank)
      : "memory");
}

#else  // there are no clusters: blocks are launched alone

__device__ inline void ClusterArrive() {}

__device__ inline void ClusterWait() {}

__device__ inline float ReadFromBlock(const float* x, uint32_t /*rank*/) {
  return *x;
}

__device__ inline void SendToBlock(uint64_t /*value*/, void* /*to*/, uint64_t* /*barrier*/, uint32_t /*rank*/) {}

#endif

}  // namespace ksa::cuda
