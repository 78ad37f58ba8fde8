// Pooling on a GPU. Chunks of few slots: chunk_pool_device.cuh. Otherwise a thread has a channel of a chunk and passes
// over its rows: for the largest gate, for the largest logit, and for the sums; rows come from memory once, and from
// the cache after that. Backward has one more pass, in which the sums are known.
#include <array>
#include <cstdint>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/pool/chunk_pool_backends.h"
#include "kernels/pool/chunk_pool_device.cuh"
#include "kernels/pool/chunk_pool_scratch.h"

namespace ksa::cuda {
namespace {

using device::Vector;
using pool::Backward;
using pool::Chunk;
using pool::ChunkOf;
using pool::ClearChunk;
using pool::Forward;
using pool::kThreads;
using pool::Problem;

constexpr int kUnroll = 4;  // rows whose loads are on their way together

// The softmax over a chunk's slots of N channels: weight(s) = exp(logit(s) - max) / sum. The largest gate is subtracted
// before the bias is added, which a large one would round away.
template <typename T, int N>
struct SlotSoftmax {
  float largest[N];  // gate
  float max[N];      // of logits
  float sum[N];

  // Logits of a slot from its rows of the gate and of the bias.
  __device__ __forceinline__ void Logits(const Vector<T, N>& gate, const Vector<T, N>& bias, float (&to)[N]) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      to[e] = (gate[e] - largest[e]) + bias[e];
    }
  }

  // `gate` and `bias` at slot 0; the sum stays open.
  __device__ __forceinline__ void FindMaxima(const T* gate, const T* bias, int64_t c, int slots) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      largest[e] = -INFINITY;
      max[e] = -INFINITY;
      sum[e] = 0.0F;
    }
#pragma unroll kUnroll
    for (int s = 0; s < slots; ++s) {
      Vector<T, N> z;
      z.Load(gate + s * c);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        largest[e] = fmaxf(largest[e], z[e]);
      }
    }
#pragma unroll kUnroll
    for (int s = 0; s < slots; ++s) {
      Vector<T, N> z;
      Vector<T, N> b;
      z.Load(gate + s * c);
      b.Load(bias + s * c);
      float logit[N];
      Logits(z, b, logit);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        max[e] = fmaxf(max[e], logit[e]);
      }
    }
  }

  // Sums of exponentials, and of what they weigh, divided: pooled[i] of x[i].
  __device__ __forceinline__ void Pool(const T* gate,
                                       const T* bias,
                                       const T* const (&x)[kMostPooled],
                                       int64_t c,
                                       int slots,
                                       float (&pooled)[kMostPooled][N]) {
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        pooled[i][e] = 0.0F;
      }
    }
#pragma unroll kUnroll
    for (int s = 0; s < slots; ++s) {
      Vector<T, N> z;
      Vector<T, N> b;
      Vector<T, N> in[kMostPooled];
      z.Load(gate + s * c);
      b.Load(bias + s * c);
#pragma unroll
      for (int i = 0; i < kMostPooled; ++i) {
        if (x[i] != nullptr) {
          in[i].Load(x[i] + s * c);
        }
      }
      float weight[N];
      Logits(z, b, weight);
#pragma unroll
      for (int e = 0; e < N; ++e) {
        weight[e] = expf(weight[e] - max[e]);
        sum[e] += weight[e];
      }
#pragma unroll
      for (int i = 0; i < kMostPooled; ++i) {
        if (x[i] != nullptr) {
#pragma unroll
          for (int e = 0; e < N; ++e) {
            pooled[i][e] = fmaf(weight[e], in[i][e], pooled[i][e]);
          }
        }
      }
    }
#pragma unroll
    for (int e = 0; e < N; ++e) {
      const float inverse = 1.0F / sum[e];
#pragma unroll
      for (int i = 0; i < kMostPooled; ++i) {
        pooled[i][e] *= inverse;
      }
    }
  }
};

// Blocks: entries along x, channels along y.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) ForwardKernel(const Forward<T> p) {
  device::WaitForKernelBefore();
  const SummaryLayout& layout = p.in.layout;
  const int64_t channel = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (channel >= p.in.c) {
    return;
  }
  const Chunk chunk = ChunkOf(layout, blockIdx.x, layout.live_chunks);
  const int64_t at = chunk.row * p.in.c + channel;
  float pooled[kMostPooled][N] = {};
  if (chunk.is_whole) {
    const T* const x[kMostPooled] = {p.in.x[0] + at, p.in.x[1] == nullptr ? nullptr : p.in.x[1] + at};
    SlotSoftmax<T, N> softmax;
    softmax.FindMaxima(p.in.gate + at, p.in.bias + channel, p.in.c, layout.chunk_size);
    softmax.Pool(p.in.gate + at, p.in.bias + channel, x, p.in.c, layout.chunk_size, pooled);
  }
#pragma unroll
  for (int i = 0; i < kMostPooled; ++i) {
    if (p.y[i] != nullptr) {
      Vector<T, N> out;
      out.Set(pooled[i]);
      out.Store(p.y[i] + chunk.entry * p.in.c + channel);
    }
  }
}

// One slot of a whole chunk whose sums are known: d(gate) = p · sum over x of dy (x - y), d(x) = p dy.
template <typename T, int N>
__device__ __forceinline__ void BackwardSlot(const Backward<T>& p,
                                             const SlotSoftmax<T, N>& softmax,
                                             const float (&inverse)[N],
                                             const float (&pooled)[kMostPooled][N],
                                             const Vector<T, N> (&dy)[kMostPooled],
                                             int64_t at,
                                             int64_t channel,
                                             int s,
                                             float* bias_sums) {
  Vector<T, N> z;
  Vector<T, N> b;
  z.Load(p.in.gate + at);
  b.Load(p.in.bias + s * p.in.c + channel);
  float weight[N];
  softmax.Logits(z, b, weight);
  float dgate[N];
#pragma unroll
  for (int e = 0; e < N; ++e) {
    weight[e] = expf(weight[e] - softmax.max[e]) * inverse[e];
    dgate[e] = 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kMostPooled; ++i) {
    if (p.in.x[i] == nullptr) {
      continue;
    }
    Vector<T, N> x;
    x.Load(p.in.x[i] + at);
    float dx[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      dx[e] = weight[e] * dy[i][e];
      dgate[e] = fmaf(dx[e], x[e] - pooled[i][e], dgate[e]);
    }
    Vector<T, N> out;
    out.Set(dx);
    out.Store(p.dx[i] + at);
  }
#pragma unroll
  for (int e = 0; e < N; ++e) {
    bias_sums[s * p.in.c + e] += dgate[e];
  }
  Vector<T, N> out;
  out.Set(dgate);
  out.Store(p.dgate + at);
}

// Blocks: shares of the chunks along x (block b takes chunks b, b + blocks, ...), channels along y.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) BackwardKernel(const Backward<T> p) {
  device::WaitForKernelBefore();
  const SummaryLayout& layout = p.in.layout;
  const int64_t channel = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (channel >= p.in.c) {
    return;
  }
  const int slots = layout.chunk_size;
  // The block's sums of the bias's gradient, of which every thread has elements to itself.
  float* bias_sums = p.partials + blockIdx.x * slots * p.in.c + channel;
  for (int s = 0; s < slots; ++s) {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      bias_sums[s * p.in.c + e] = 0.0F;
    }
  }
  for (int64_t index = blockIdx.x; index < p.chunks; index += gridDim.x) {
    const Chunk chunk = ChunkOf(layout, index, layout.chunks());
    if (!chunk.is_whole) {
      ClearChunk<T, N>(p, chunk, channel);
      continue;
    }
    const int64_t at = chunk.row * p.in.c + channel;
    const T* const x[kMostPooled] = {p.in.x[0] + at, p.in.x[1] == nullptr ? nullptr : p.in.x[1] + at};
    SlotSoftmax<T, N> softmax;
    float pooled[kMostPooled][N];
    softmax.FindMaxima(p.in.gate + at, p.in.bias + channel, p.in.c, slots);
    softmax.Pool(p.in.gate + at, p.in.bias + channel, x, p.in.c, slots, pooled);
    float inverse[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      inverse[e] = 1.0F / softmax.sum[e];
    }
    Vector<T, N> dy[kMostPooled];
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
      if (p.in.x[i] != nullptr) {
        dy[i].Load(p.dy[i] + chunk.entry * p.in.c + channel);
      }
    }
    for (int s = 0; s < slots; ++s) {
      BackwardSlot<T, N>(p, softmax, inverse, pooled, dy, at + s * p.in.c, channel, s, bias_sums);
    }
  }
}

template <typename T, typename Args>
Problem<T> MakeProblem(const Args& args) {
  return {.layout = args.layout,
          .gate = args.gate.template As<T>(),
          .bias = args.bias.template As<T>(),
          .x = {args.x[0].template As<T>(), args.x[1].template As<T>()},
          .c = args.gate.cols()};
}

// Channels of a thread that holds its rows: 8 bytes.
template <typename T>
constexpr int kHeldChannels = 8 / static_cast<int>(sizeof(T));

// Whether rows of all of them begin where vectors may.
template <typename... Tensors>
bool AreAligned(const Tensors&... tensors) {
  return (device::IsAligned16(tensors.data) && ...);
}

[[nodiscard]] LaunchShape Shape(int64_t blocks, int64_t channels, int of_thread) {
  const int64_t of_block = int64_t{kThreads} * of_thread;
  return {.grid = dim3(static_cast<unsigned>(blocks), static_cast<unsigned>((channels + of_block - 1) / of_block)),
          .block = dim3(kThreads),
          .early = true};
}

template <typename T>
void RunForward(const ChunkPoolForwardArgs& args, const Stream& stream) {
  const Forward<T> p{.in = MakeProblem<T>(args), .y = {args.y[0].As<T>(), args.y[1].As<T>()}};
  constexpr int kHeld = kHeldChannels<T>;
  constexpr int kWide = device::kVectorElements<T>;
  const int64_t entries = args.layout.summary_rows();
  const bool aligned = AreAligned(args.gate, args.bias, args.x[0], args.x[1], args.y[0], args.y[1]);
  if (aligned && args.layout.chunk_size <= pool::kHeldSlots && p.in.c % kHeld == 0) {
    Launch("ChunkPoolForward", stream, Shape(entries, p.in.c, kHeld), pool::HeldForwardKernel<T, kHeld>, p);
  } else if (aligned && p.in.c % kWide == 0) {
    Launch("ChunkPoolForward", stream, Shape(entries, p.in.c, kWide), ForwardKernel<T, kWide>, p);
  } else {
    Launch("ChunkPoolForward", stream, Shape(entries, p.in.c, 1), ForwardKernel<T, 1>, p);
  }
}

template <typename T>
void RunBackward(const ChunkPoolBackwardArgs& args, const Stream& stream) {
  const char* op = "ChunkPoolBackward";
  const Tensor partials = ChunkPoolBackwardPartials(args);
  const int64_t blocks = partials.rows();
  const auto rows = [](const TensorView& x) { return x.empty() ? int64_t{0} : x.rows(); };
  const Backward<T> p{.in = MakeProblem<T>(args),
                      .dy = {args.dy[0].As<T>(), args.dy[1].As<T>()},
                      .dgate = args.dgate.As<T>(),
                      .dx = {args.dx[0].As<T>(), args.dx[1].As<T>()},
                      .partials = partials.As<float>(),
                      .gate_rows = rows(args.gate),
                      .x_rows = {rows(args.x[0]), rows(args.x[1])},
                      .chunks = int64_t{1} * args.layout.sequences * args.layout.chunks()};
  constexpr int kHeld = kHeldChannels<T>;
  const bool aligned = AreAligned(
      args.gate, args.bias, args.x[0], args.x[1], args.dy[0], args.dy[1], args.dgate, args.dx[0], args.dx[1]);
  if (aligned && args.layout.chunk_size <= pool::kHeldSlots && p.in.c % kHeld == 0) {
    Launch(op, stream, Shape(blocks, p.in.c, kHeld), pool::HeldBackwardKernel<T, kHeld>, p);
  } else {  // one channel a thread: chunks are few
    Launch(op, stream, Shape(blocks, p.in.c, 1), BackwardKernel<T, 1>, p);
  }
  const device::ColumnSum sum{p.partials, blocks, args.dbias.As<float>(), args.accumulate};
  device::ColumnSums(op, sum, {}, args.bias.size(), stream);
}

}  // namespace

void ChunkPoolForward(const ChunkPoolForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.gate.dtype, [&](auto element) { RunForward<decltype(element)>(args, stream); });
}

void ChunkPoolBackward(const ChunkPoolBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.gate.dtype, [&](auto element) { RunBackward<decltype(element)>(args, stream); });
}

}  // namespace ksa::cuda
