#include <algorithm>
#include <cmath>

#include "kernels/core/cuda.h"
#include "kernels/device/cluster.cuh"
#include "kernels/loss/softmax_pack.cuh"
#include "kernels/loss/softmax_rows_cuda.h"
#include "kernels/loss/softmax_stream.cuh"

namespace ksa::cuda {
namespace {

// Any rows: a cluster of blocks starts for each.
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kUnroll = 4;
constexpr int kMaxCluster = 8;

template <typename G>
struct Rows {
  const float* logits;
  const int32_t* targets;
  float* losses;
  float* largest;  // or null
  G* gradient;     // null: the losses alone
  int64_t v;
  int64_t slice;   // elements of a row that a block of the cluster takes
  int64_t cached;  // of these, elements that stay in shared memory
  uint32_t cluster;
  float scale;
};

// Over the block's slice [begin, end) of a row; what fits stays in `cache`, each element with the thread that read it.
template <typename G, int kWidth>
__device__ Partial ReadSlice(const Rows<G>& rows, const float* logits, int64_t begin, int64_t end, float* cache) {
  Partial partial{-INFINITY, 0.0F};
  constexpr int64_t kStep = kThreads * kWidth;
  for (int64_t i = begin + threadIdx.x * kWidth; i < end; i += kUnroll * kStep) {
    Pack<kWidth> packs[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * kStep < end) {
        packs[u].Load(logits + i + u * kStep);
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t at = i + u * kStep - begin;
      if (begin + at < end) {
        Add<kExact<G>>(packs[u], partial);
        if (rows.gradient != nullptr && at < rows.cached) {
          packs[u].ToCache(cache + at);
        }
      }
    }
  }
  return partial;
}

template <typename G, int kWidth>
__device__ void WriteSlice(
    const Rows<G>& rows, int64_t row, int64_t begin, int64_t end, const float* cache, const Partial& all) {
  const float* logits = rows.logits + row * rows.v;
  G* gradient = rows.gradient + row * rows.v;
  const int32_t target = rows.targets[row];
  const float factor = target < rows.v ? rows.scale / all.sum : NAN;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x * kWidth; i < end; i += kThreads * kWidth) {
    Pack<kWidth> pack;
    if (i - begin < rows.cached) {
      pack.FromCache(cache + (i - begin));
    } else {
      pack.Load(logits + i);
    }
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float softmax = Exponential<kExact<G>>(pack.x[e] - all.largest) * factor;
      pack.x[e] = i + e == target ? softmax - rows.scale : softmax;
    }
    pack.Store(gradient + i);
  }
}

template <typename G, int kWidth>
__device__ void ZeroSlice(const Rows<G>& rows, int64_t row, int64_t begin, int64_t end) {
  G* gradient = rows.gradient + row * rows.v;
  const Pack<kWidth> zero{};
  for (int64_t i = begin + threadIdx.x * kWidth; i < end; i += kThreads * kWidth) {
    zero.Store(gradient + i);
  }
}

// A cluster of blocks takes one row.
template <typename G, int kWidth>
__global__ void __launch_bounds__(kThreads) SoftmaxRowsKernel(const Rows<G> rows) {
  extern __shared__ __align__(16) float cache[];
  __shared__ Partial of_warps[kWarps];
  __shared__ Partial of_block;
  const uint32_t rank = blockIdx.x % rows.cluster;
  const int64_t row = blockIdx.x / rows.cluster;
  const int64_t begin = min(rank * rows.slice, rows.v);
  const int64_t end = min(begin + rows.slice, rows.v);
  const float* logits = rows.logits + row * rows.v;
  const int32_t target = rows.targets[row];
  const bool first = rank == 0 && threadIdx.x == 0;
  if (target < 0) {
    if (rows.gradient != nullptr) {
      ZeroSlice<G, kWidth>(rows, row, begin, end);
    }
    if (first) {
      rows.losses[row] = 0.0F;
      if (rows.largest != nullptr) {
        rows.largest[row] = -INFINITY;
      }
    }
    return;
  }
  // Read before the gradient may be written over it.
  const float target_logit = first && target < rows.v ? logits[target] : NAN;
  Partial all = JoinBlock<kExact<G>, kWarps>(ReadSlice<G, kWidth>(rows, logits, begin, end, cache), of_warps);
  if (rows.cluster > 1) {
    all = JoinCluster<kExact<G>>(all, &of_block, rows.cluster);
    ClusterArrive();
  }
  if (first) {
    rows.losses[row] = logf(all.sum) - (target_logit - all.largest);
    if (rows.largest != nullptr) {
      rows.largest[row] = all.largest;
    }
  }
  if (rows.gradient != nullptr) {
    WriteSlice<G, kWidth>(rows, row, begin, end, cache, all);
  }
  if (rows.cluster > 1) {
    ClusterWait();  // nobody reads this block's sums any more
  }
}

template <typename G, int kWidth>
void LaunchRows(const SoftmaxRowsArgs& args, const Stream& stream) {
  const int64_t n = args.logits.rows();
  const int64_t v = args.logits.cols();
  int shared_bytes = 0;
  KSA_CUDA_CHECK(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device.ordinal));
  // Two blocks a multiprocessor, so that one reads while the other writes. Without a gradient nothing is read twice,
  // and one block that takes a whole row has more on its way than eight that wait for each other.
  constexpr int64_t kPackBytes = 4 * 4;
  const int64_t target_bytes = shared_bytes / 2 - 2048;
  int64_t cluster = 1;
  const bool has_clusters = CapabilityOf(stream.device).compiled >= 90;
  while (!args.gradient.empty() && has_clusters && cluster < kMaxCluster && v * 4 > cluster * target_bytes) {
    cluster *= 2;
  }
  const int64_t slice = ((v + cluster - 1) / cluster + 3) / 4 * 4;
  const int64_t most = shared_bytes - 2048;
  const int64_t cached = args.gradient.empty() ? 0 : std::min(slice, most / kPackBytes * 4);
  const Rows<G> rows{.logits = args.logits.As<float>(),
                     .targets = args.targets,
                     .losses = args.losses,
                     .largest = args.largest,
                     .gradient = args.gradient.As<G>(),
                     .v = v,
                     .slice = slice,
                     .cached = cached,
                     .cluster = static_cast<uint32_t>(cluster),
                     .scale = args.scale};
  Launch("SoftmaxRowsKernel",
         stream,
         {.grid = dim3(static_cast<unsigned>(n * cluster)),
          .block = dim3(kThreads),
          .shared_bytes = static_cast<size_t>(4 * cached),
          .cluster = static_cast<unsigned>(cluster)},
         SoftmaxRowsKernel<G, kWidth>,
         rows);
}

}  // namespace

void SoftmaxRows(const SoftmaxRowsArgs& args, const Stream& stream) {
  if (stream.dry) {
    return;
  }
  if (CanStreamSoftmax(args, stream)) {
    StreamSoftmax(args, stream);
    return;
  }
  const bool packs = args.logits.cols() % 4 == 0;
  if (args.gradient.dtype == DType::kBF16) {
    packs ? LaunchRows<BFloat16, 4>(args, stream) : LaunchRows<BFloat16, 1>(args, stream);
  } else {
    packs ? LaunchRows<float, 4>(args, stream) : LaunchRows<float, 1>(args, stream);
  }
}

}  // namespace ksa::cuda
