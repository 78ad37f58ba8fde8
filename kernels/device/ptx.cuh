// Single instructions that CUDA C++ has no name for, or only one with checks.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

namespace ksa::device {

// The address that PTX instructions on shared memory take.
[[nodiscard]] __device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Two numbers as bf16, rounded to nearest even, `low` in the lower half, which is the lower address.
[[nodiscard]] __device__ __forceinline__ uint32_t PackBFloat16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

// 2^x to two units in the last place; 0 where that would be a denormal number.
[[nodiscard]] __device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace ksa::device
