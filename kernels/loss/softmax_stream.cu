// Clusters of 8 blocks stay on the GPU and take one row after the other, each block an eighth of it. The copy engine
// brings the next two rows into shared memory while the threads hold the present one in registers: what a row waits
// for, sums that cross the cluster above all, costs no bandwidth then. Every logit is read once, every gradient written
// once.
#include <algorithm>

#include <cuda_bf16.h>

#include "kernels/core/cuda.h"
#include "kernels/device/cluster.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/tma.cuh"
#include "kernels/loss/softmax_partial.cuh"
#include "kernels/loss/softmax_stream.cuh"

namespace ksa::cuda {
namespace {

constexpr int kCluster = 8;
constexpr int kThreads = 512;
[[maybe_unused]] constexpr int kWarps = kThreads / 32;
constexpr int64_t kFewestElements = 8192;
constexpr int kMostPacks = 14;  // of 4 elements, in the registers of a thread
[[maybe_unused]] constexpr float kLog2E = 1.44269504F;

struct LongRows {
  const float* logits;
  const int32_t* targets;
  float* losses;
  float* largest;  // or null
  BFloat16* gradient;
  int64_t n;
  int64_t v;
  int32_t slice;  // elements of a row that a block takes
  float scale;
};

// A thread's part of a block's slice of a row: every kThreads-th pack of 4 elements.
template <int kPacks>
struct Held {
  float x[kPacks][4];

  [[nodiscard]] static __device__ int32_t At(int pack) {
    return (pack * kThreads + static_cast<int32_t>(threadIdx.x)) * 4;
  }

  // From shared memory; -infinity behind the slice's `count` elements.
  __device__ void Read(const float* slice, int32_t count) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      float4 a{-INFINITY, -INFINITY, -INFINITY, -INFINITY};
      if (At(p) < count) {
        a = *reinterpret_cast<const float4*>(slice + At(p));
      }
      x[p][0] = a.x;
      x[p][1] = a.y;
      x[p][2] = a.z;
      x[p][3] = a.w;
    }
  }

  // Every x becomes exp(x - largest), with the largest of this thread.
  __device__ Partial Exponentiate() {
    float largest = x[0][0];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      largest = fmaxf(fmaxf(largest, fmaxf(x[p][0], x[p][1])), fmaxf(x[p][2], x[p][3]));
    }
    const float shift = largest == -INFINITY ? 0.0F : -largest * kLog2E;
    float sums[4] = {};
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        x[p][e] = device::Exp2(fmaf(x[p][e], kLog2E, shift));
        sums[e] += x[p][e];
      }
    }
    return {largest, (sums[0] + sums[1]) + (sums[2] + sums[3])};
  }

  // factor · x to the gradient, less `scale` at the element `target` of the slice, which may lie outside of it.
  __device__ void Write(BFloat16* gradient, int32_t count, float factor, int64_t target, float scale) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (At(p) < count) {
        const uint2 packed{device::PackBFloat16(x[p][0] * factor, x[p][1] * factor),
                           device::PackBFloat16(x[p][2] * factor, x[p][3] * factor)};
        asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(gradient + At(p)), "r"(packed.x), "r"(packed.y)
                     : "memory");
        if (target / 4 == At(p) / 4 && target >= 0) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (At(p) + e == target) {
              gradient[target] = BFloat16(x[p][e] * factor - scale);
            }
          }
        }
      }
    }
  }

  static __device__ void WriteZeros(BFloat16* gradient, int32_t count) {
    for (int32_t i = At(0); i < count; i += 4 * kThreads) {
      *reinterpret_cast<uint2*>(gradient + i) = {0U, 0U};
    }
  }
};

#if __CUDA_ARCH__ >= 900

// In shared memory: the sums of the blocks of a cluster, of this turn and of the last one, and all of them joined.
struct Exchange {
  Partial of_blocks[2][kCluster];
  uint64_t complete[2];
  Partial all;

  __device__ void Init() {
    device::InitBarrier(&complete[0], 1);
    device::InitBarrier(&complete[1], 1);
  }

  // By the block's first warp. Every block sends its sum to all, itself included. What came two turns ago was read by
  // everybody before it sent what the last turn waited for, so it may be written over.
  __device__ void Join(const Partial* of_warps, uint32_t rank, uint32_t turn) {
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

#endif

template <int kPacks>
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
  const auto load = [&](int64_t row, uint32_t buffer) {
    if (threadIdx.x == 0 && row < rows.n) {
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
  load(row, 0);
  load(row + step, 1);
  int32_t next_target = row < rows.n ? rows.targets[row] : 0;
  for (uint32_t turn = 0; row < rows.n; ++turn, row += step) {
    const uint32_t buffer = turn % 2;
    const int32_t target = next_target;
    next_target = row + step < rows.n ? rows.targets[row + step] : 0;
    const bool in_row = target >= 0 && target < rows.v;
    const bool in_slice = in_row && target >= begin && target < begin + count;
    Held<kPacks> held;
    device::Wait(&full[buffer], turn / 2 % 2);
    const float target_logit = in_slice ? buffers[buffer * rows.slice + target - begin] : 0.0F;
    held.Read(buffers + buffer * rows.slice, count);
    const Partial mine = held.Exponentiate();
    const Partial of_warp = JoinLanes<false, 32>(mine);
    if (threadIdx.x % 32 == 0) {
      of_warps[threadIdx.x / 32] = of_warp;
    }
    __syncthreads();  // and all have read the buffer
    load(row + 2 * step, buffer);
    if (threadIdx.x < 32) {
      exchange.Join(of_warps, rank, turn);
    }
    __syncthreads();
    const Partial all = exchange.all;
    BFloat16* gradient = rows.gradient + row * rows.v + begin;
    if (target < 0) {
      Held<kPacks>::WriteZeros(gradient, count);
    } else {
      const float factor = in_row ? rows.scale / all.sum : NAN;
      const float own = mine.largest == -INFINITY ? 0.0F : device::Exp2((mine.largest - all.largest) * kLog2E);
      held.Write(gradient, count, own * factor, target - begin, rows.scale);
    }
    if (threadIdx.x == 0 && rank == 0 && rows.largest != nullptr) {
      rows.largest[row] = target < 0 ? -INFINITY : all.largest;
    }
    if (threadIdx.x == 0 && (in_slice || (!in_row && rank == 0))) {
      const float loss = logf(all.sum) - (target_logit - all.largest);
      rows.losses[row] = in_row ? loss : (target < 0 ? 0.0F : NAN);
    }
  }
  ClusterArrive();
  ClusterWait();  // nothing is on its way to this block any more
#endif
}

// Clusters that are on the GPU at the same time. One more would start when the others end, and take as long again.
template <int kPacks>
int64_t ActiveClusters(size_t shared_bytes) {
  KSA_CUDA_CHECK(cudaFuncSetAttribute(
      SoftmaxStreamKernel<kPacks>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kCluster);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = shared_bytes;
  config.attrs = &cluster;
  config.numAttrs = 1;
  int clusters = 0;
  KSA_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&clusters, SoftmaxStreamKernel<kPacks>, &config));
  return std::max(clusters, 1);
}

template <int kPacks>
void LaunchStream(const LongRows& rows, const Stream& stream) {
  if constexpr (kPacks < kMostPacks) {
    if (rows.slice > kPacks * 4 * kThreads) {
      LaunchStream<kPacks + 2>(rows, stream);
      return;
    }
  }
  const auto shared_bytes = static_cast<size_t>(2 * 4 * rows.slice);
  const int64_t clusters = std::min(rows.n, ActiveClusters<kPacks>(shared_bytes));
  Launch("SoftmaxStreamKernel",
         stream,
         {.grid = dim3(static_cast<unsigned>(clusters * kCluster)),
          .block = dim3(kThreads),
          .shared_bytes = shared_bytes,
          .cluster = kCluster},
         SoftmaxStreamKernel<kPacks>,
         rows);
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
  int shared_bytes = 0;
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device.ordinal));
  return CapabilityOf(stream.device).compiled >= 90 && 2 * 4 * SliceOf(v) + 1024 <= shared_bytes &&
         SliceOf(v) <= kMostPacks * 4 * kThreads;
}

void StreamSoftmax(const SoftmaxRowsArgs& args, const Stream& stream) {
  const int64_t n = args.logits.rows();
  const int64_t v = args.logits.cols();
  const LongRows rows{.logits = args.logits.As<float>(),
                      .targets = args.targets,
                      .losses = args.losses,
                      .largest = args.largest,
                      .gradient = args.gradient.As<BFloat16>(),
                      .n = n,
                      .v = v,
                      .slice = static_cast<int32_t>(SliceOf(v)),
                      .scale = args.scale};
  LaunchStream<2>(rows, stream);
}

}  // namespace ksa::cuda
