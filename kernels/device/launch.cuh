// For kernels that are launched with LaunchShape::early.
#pragma once

namespace ksa::device {

// Lets the next kernel's blocks take their places while this one still runs, where that one is launched early as well.
// It helps behind kernels of a few blocks, as those of decoding are, and in front of a kernel that can ask for what it
// will read. Behind kernels that fill the GPU it made training slower: blocks that wait take room, and spread unevenly
// over the multiprocessors. (PTX ISA, griddepcontrol.)
__device__ __forceinline__ void LetNextKernelBegin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Waits until everything queued before this kernel is done and visible. An early kernel calls it first thing, in every
// thread, before it touches memory; in other kernels it does nothing. The next kernel begins only then: no two that
// wait stand behind each other.
__device__ __forceinline__ void WaitForKernelBefore() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  constexpr unsigned kFewBlocks = 64;  // half of the multiprocessors and more are free
  if (gridDim.x * gridDim.y * gridDim.z <= kFewBlocks) {
    LetNextKernelBegin();
  }
#endif
}

}  // namespace ksa::device
