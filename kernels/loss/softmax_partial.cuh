// Sums of exponentials of a row of logits that many threads look at, and how they join.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/device/cluster.cuh"

namespace ksa::cuda {

// The sum of exp(x - largest) over some elements x; largest -infinity and sum 0 of none. NaN elements are in the sum.
struct alignas(8) Partial {
  float largest;
  float sum;
};

// Beside bf16 gradients the approximate exponential is exact enough; kExact for fp32.
template <bool kExact>
__device__ float Exponential(float x) {
  return kExact ? expf(x) : __expf(x);
}

// Over groups of kLanes neighbouring lanes of a warp. All of a group get the same bits.
template <bool kExact, int kLanes>
__device__ Partial JoinLanes(const Partial& partial) {
  float largest = partial.largest;
#pragma unroll
  for (int offset = 1; offset < kLanes; offset *= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, offset));
  }
  // Equal ones may both be -infinity, whose difference is no number.
  const bool same = partial.largest == largest;
  float sum = same ? partial.sum : partial.sum * Exponential<kExact>(partial.largest - largest);
#pragma unroll
  for (int offset = 1; offset < kLanes; offset *= 2) {
    sum += __shfl_xor_sync(0xffffffffU, sum, offset);
  }
  return {largest, sum};
}

// Over a block of kWarps warps (a power of two), for all its threads. `of_warps` may be used again after another
// barrier.
template <bool kExact, int kWarps>
__device__ Partial JoinBlock(Partial partial, Partial* of_warps) {
  partial = JoinLanes<kExact, 32>(partial);
  if (threadIdx.x % 32 == 0) {
    of_warps[threadIdx.x / 32] = partial;
  }
  __syncthreads();
  return JoinLanes<kExact, kWarps>(of_warps[threadIdx.x % kWarps]);
}

// Over the blocks of a cluster (a power of two, at most 8), for all their threads; `shared` is the same variable in
// each. It may be written again once every block has passed another barrier of the cluster.
template <bool kExact>
__device__ Partial JoinCluster(const Partial& of_block, Partial* shared, uint32_t cluster) {
  if (threadIdx.x == 0) {
    *shared = of_block;
  }
  ClusterArrive();
  ClusterWait();
  const uint32_t rank = threadIdx.x % cluster;
  const Partial partial{ReadFromBlock(&shared->largest, rank), ReadFromBlock(&shared->sum, rank)};
  switch (cluster) {
    case 8:
      return JoinLanes<kExact, 8>(partial);
    case 4:
      return JoinLanes<kExact, 4>(partial);
    default:
      return JoinLanes<kExact, 2>(partial);
  }
}

}  // namespace ksa::cuda
