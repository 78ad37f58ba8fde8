// Sums over the threads of a warp and of a block, in an order that depends on their number alone.
#pragma once

#include <cstdint>

namespace ksa::device {

// The sum over groups of `lanes` neighbouring lanes (a power of two, at most 32), in every lane of the group: by
// butterfly, so all lanes add the same pairs and get the same bits. All lanes of the warp take part.
template <typename A>
[[nodiscard]] __device__ __forceinline__ A GroupSum(A value, int lanes) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const A other = __shfl_xor_sync(0xffffffffU, value, offset);  // by all: a branch around it costs more
    value += offset < lanes ? other : A{0};
  }
  return value;
}

template <typename A>
[[nodiscard]] __device__ __forceinline__ A WarpSum(A value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  return value;
}

// The sum over a block of kWarps warps, in every thread. `shared` has room for kWarps values, and may be used again
// after the next barrier of the block.
template <int kWarps, typename A>
[[nodiscard]] __device__ __forceinline__ A BlockSum(A value, A* shared) {
  value = WarpSum(value);
  if constexpr (kWarps == 1) {
    return value;
  }
  if (threadIdx.x % 32 == 0) {
    shared[threadIdx.x / 32] = value;
  }
  __syncthreads();
  A sum = shared[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) {
    sum += shared[i];
  }
  return sum;
}

// 1/sqrt(x) within about one unit in the last place: the fast instruction and a step of Newton's method. Unlike
// division and root it has no branch, so several can be under way. NaN for 0, where the exact one is infinite.
[[nodiscard]] __device__ __forceinline__ float ReciprocalRoot(float x) {
  const float r = rsqrtf(x);
  return fmaf(0.5F * r, fmaf(-x * r, r, 1.0F), r);
}

}  // namespace ksa::device
