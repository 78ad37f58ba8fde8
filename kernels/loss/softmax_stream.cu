// Clusters of 8 blocks stay on the GPU and take one row after the other, each block an eighth of it in its shared
// memory. While a row is worked on, the copy engine brings the next one: what a row waits for, sums that cross the
// cluster above all, costs no bandwidth then. Every logit is read once, every gradient written once.
#include <algorithm>

#include <cuda_bf16.h>

#include "kernels/core/cuda.h"
#include "kernels/device/cluster.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/tma.cuh"
#include "kernels/loss/softmax_partial.cuh"
#include "kernels/loss/softmax_stream.cuh"

namespace ksa::cuda {
namespace {

constexpr int kCluster = 8;
constexpr int kThreads = 512;
[[maybe_unused]] constexpr int kWarps = kThreads / 32;
constexpr int64_t kFewestElements = 8192;
constexpr float kLog2E = 1.44269504F;

struct LongRows {
  const float* logits;
  const int32_t* targets;
  float* losses;
  BFloat16* gradient;
  int64_t n;
  int64_t v;
  int32_t slice;  // elements of a row that a block takes
  float scale;
};

__device__ float PowerOfTwo(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A thread's part of `count` elements in shared memory.
[[maybe_unused]] __device__ Partial SumSlice(const float* x, int32_t count) {
  Partial partial{-INFINITY, 0.0F};
#pragma unroll 4
  for (int32_t i = static_cast<int32_t>(threadIdx.x) * 4; i < count; i += kThreads * 4) {
    const float4 a = *reinterpret_cast<const float4*>(x + i);
    const float largest = fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w));
    if (largest > partial.largest) {
      partial.sum *= PowerOfTwo((partial.largest - largest) * kLog2E);
      partial.largest = largest;
    }
    const float shift = -partial.largest * kLog2E;
    partial.sum += (PowerOfTwo(fmaf(a.x, kLog2E, shift)) + PowerOfTwo(fmaf(a.y, kLog2E, shift))) +
                   (PowerOfTwo(fmaf(a.z, kLog2E, shift)) + PowerOfTwo(fmaf(a.w, kLog2E, shift)));
  }
  return partial;
}

__device__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// gradient = factor · exp(x - largest), less `scale` at `target` (of the slice; or outside of it).
[[maybe_unused]] __device__ void WriteSlice(
    const float* x, int32_t count, BFloat16* gradient, float largest, float factor, int64_t target, float scale) {
  const float shift = -largest * kLog2E;
#pragma unroll 4
  for (int32_t i = static_cast<int32_t>(threadIdx.x) * 4; i < count; i += kThreads * 4) {
    const float4 a = *reinterpret_cast<const float4*>(x + i);
    float y[4] = {PowerOfTwo(fmaf(a.x, kLog2E, shift)) * factor,
                  PowerOfTwo(fmaf(a.y, kLog2E, shift)) * factor,
                  PowerOfTwo(fmaf(a.z, kLog2E, shift)) * factor,
                  PowerOfTwo(fmaf(a.w, kLog2E, shift)) * factor};
    if (target >= i && target < i + 4) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        y[e] -= i + e == target ? scale : 0.0F;
      }
    }
    *reinterpret_cast<uint2*>(gradient + i) = {PackBf16(y[0], y[1]), PackBf16(y[2], y[3])};
  }
}

[[maybe_unused]] __device__ void ZeroSlice(BFloat16* gradient, int32_t count) {
  for (int32_t i = static_cast<int32_t>(threadIdx.x) * 4; i < count; i += kThreads * 4) {
    *reinterpret_cast<uint2*>(gradient + i) = {0U, 0U};
  }
}

// In shared memory: the sums of the blocks of a cluster, of this turn and of the last one, and all of them joined.
struct Exchange {
  Partial of_blocks[2][kCluster];
  uint64_t complete[2];
  Partial all;

  [[maybe_unused]] __device__ void Init() {
    device::InitBarrier(&complete[0], 1);
    device::InitBarrier(&complete[1], 1);
  }

  // By the block's first warp. Every block sends its sum to all, itself included. What came two turns ago was read by
  // everybody before it sent what the last turn waited for, so it may be written over.
  [[maybe_unused]] __device__ void Join(const Partial* of_warps, uint32_t rank, uint32_t turn) {
    const Partial of_block = JoinLanes<false, kWarps>(of_warps[threadIdx.x % kWarps]);
    const uint32_t half = turn % 2;
    if (threadIdx.x == 0) {
      device::ArriveExpectBytes(&complete[half], kCluster * sizeof(Partial));
    }
    if (threadIdx.x < kCluster) {
      const uint64_t bits = uint64_t{__float_as_uint(of_block.sum)} << 32U | __float_as_uint(of_block.largest);
      SendToBlock(bits, &of_blocks[half][rank], &complete[half], threadIdx.x);
    }
    device::Wait(&complete[half], turn / 2 % 2);
    const Partial joined = JoinLanes<false, kCluster>(of_blocks[half][threadIdx.x % kCluster]);
    if (threadIdx.x == 0) {
      all = joined;
    }
  }
};

__global__ void __launch_bounds__(kThreads, 1) SoftmaxStreamKernel(const LongRows rows) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) float buffers[];  // two slices
  __shared__ uint64_t full[2];
  __shared__ Partial of_warps[kWarps];
  __shared__ Exchange exchange;
  const uint32_t rank = blockIdx.x % kCluster;
  const int64_t step = gridDim.x / kCluster;
  const int64_t begin = int64_t{1} * rank * rows.slice;
  const auto count = static_cast<int32_t>(min(int64_t{1} * rows.slice, rows.v - begin));
  const auto load = [&](int64_t row, int buffer) {
    if (threadIdx.x == 0) {
      const auto bytes = static_cast<uint32_t>(count) * 4;
      device::ArriveExpectBytes(&full[buffer], bytes);
      device::BulkLoad(buffers + buffer * rows.slice, rows.logits + row * rows.v + begin, bytes, &full[buffer]);
    }
  };
  if (threadIdx.x == 0) {
    device::InitBarrier(&full[0], 1);
    device::InitBarrier(&full[1], 1);
    exchange.Init();
    device::FenceBarrierInit();
  }
  ClusterArrive();
  ClusterWait();

  int64_t row = blockIdx.x / kCluster;
  int32_t target = 0;
  if (row < rows.n) {
    load(row, 0);
    target = rows.targets[row];
  }
  for (uint32_t turn = 0; row < rows.n; ++turn, row += step) {
    const int buffer = static_cast<int>(turn % 2);
    int32_t next_target = 0;
    if (row + step < rows.n) {
      load(row + step, 1 - buffer);
      next_target = rows.targets[row + step];
    }
    const float* x = buffers + buffer * rows.slice;
    device::Wait(&full[buffer], turn / 2 % 2);
    const Partial of_warp = JoinLanes<false, 32>(SumSlice(x, count));
    if (threadIdx.x % 32 == 0) {
      of_warps[threadIdx.x / 32] = of_warp;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      exchange.Join(of_warps, rank, turn);
    }
    __syncthreads();
    const Partial all = exchange.all;
    BFloat16* gradient = rows.gradient + row * rows.v + begin;
    const int64_t inside = target - begin;
    if (target < 0) {
      ZeroSlice(gradient, count);
    } else {
      const bool valid = target < rows.v;
      WriteSlice(x, count, gradient, all.largest, valid ? rows.scale / all.sum : NAN, inside, rows.scale);
    }
    if (threadIdx.x == 0) {
      if (target < 0 || target >= rows.v) {
        if (rank == 0) {
          rows.losses[row] = target < 0 ? 0.0F : NAN;
        }
      } else if (inside >= 0 && inside < count) {
        rows.losses[row] = logf(all.sum) - (x[inside] - all.largest);
      }
    }
    target = next_target;
    __syncthreads();  // the buffer is free
  }
  ClusterArrive();
  ClusterWait();  // nothing is on its way to this block any more
#endif
}

// Elements of a row for each block: whole units of 16 bytes.
int64_t SliceOf(int64_t v) {
  return (v + 4 * kCluster - 1) / (4 * kCluster) * 4;
}

}  // namespace

bool CanStreamSoftmax(const SoftmaxRowsArgs& args, const Stream& stream) {
  const int64_t v = args.logits.cols();
  if (args.gradient.empty() || args.gradient.dtype != DType::kBF16 || v % 4 != 0 || v < kFewestElements) {
    return false;
  }
  int major = 0;
  int shared_bytes = 0;
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, stream.device.ordinal));
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device.ordinal));
  return major >= 9 && 2 * 4 * SliceOf(v) + 1024 <= shared_bytes;
}

void StreamSoftmax(const SoftmaxRowsArgs& args, const Stream& stream) {
  const int64_t n = args.logits.rows();
  const int64_t v = args.logits.cols();
  int multiprocessors = 0;
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, stream.device.ordinal));
  const int64_t clusters = std::min<int64_t>(n, std::max(multiprocessors / kCluster, 1));
  const LongRows rows{.logits = args.logits.As<float>(),
                      .targets = args.targets,
                      .losses = args.losses,
                      .gradient = args.gradient.As<BFloat16>(),
                      .n = n,
                      .v = v,
                      .slice = static_cast<int32_t>(SliceOf(v)),
                      .scale = args.scale};
  Launch("SoftmaxStreamKernel",
         stream,
         {.grid = dim3(static_cast<unsigned>(clusters * kCluster)),
          .block = dim3(kThreads),
          .shared_bytes = static_cast<size_t>(2 * 4 * SliceOf(v)),
          .cluster = kCluster},
         SoftmaxStreamKernel,
         rows);
}

}  // namespace ksa::cuda
