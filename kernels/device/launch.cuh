// For kernels that are launched with LaunchShape::early.
#pragma once

namespace ksa::device {

// Waits until everything queued before this kernel is done and visible. An early kernel calls it first thing, in every
// thread, before it touches memory; in other kernels it does nothing. (PTX ISA, griddepcontrol. Its other half, by
// which a kernel lets the next one start before its own blocks have ended, made kernels slower here: blocks that wait
// take room, and those of the kernel behind them spread unevenly over the multiprocessors.)
__device__ __forceinline__ void WaitForKernelBefore() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace ksa::device
