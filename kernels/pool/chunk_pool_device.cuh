// What the kernels that pool share, and those for few slots a chunk: there a thread holds its channels of all rows of a
// chunk in registers, so that all loads are on their way together and nothing is read twice.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/pool/chunk_pool.h"
#include "kernels/pool/chunk_pool_scratch.h"

namespace ksa::cuda::pool {

using device::Vector;

inline constexpr int kThreads = 128;  // of channels, or vectors of them, of a block
inline constexpr int kHeldSlots = kFewPoolSlots;
inline constexpr float kLog2E = 1.44269504088896341F;

// Of both passes. Pointers of a second matrix are null where there is one alone.
template <typename T>
struct Problem {
  SummaryLayout layout;
  const T* gate;
  const T* bias;
  const T* x[kMostPooled];
  int64_t c;
};

// A chunk: its first row of text and its entry's row.
struct Chunk {
  int32_t sequence;
  int32_t place;
  int64_t row;
  int64_t entry;
  bool has_entry;  // a row for it
  bool is_whole;
};

// Chunk number `index` of those that are here, `chunks` a sequence.
__device__ __forceinline__ Chunk ChunkOf(const SummaryLayout& layout, int64_t index, int32_t chunks) {
  Chunk chunk{};
  chunk.sequence = static_cast<int32_t>(index / chunks);
  chunk.place = static_cast<int32_t>(index - int64_t{chunk.sequence} * chunks);
  chunk.row = layout.TextRow(chunk.sequence, chunk.place * layout.chunk_size);
  chunk.has_entry = chunk.place < layout.live_chunks;
  chunk.entry = int64_t{chunk.sequence} * layout.live_chunks + chunk.place;
  chunk.is_whole =
      chunk.has_entry && layout.ChunkTokens(chunk.sequence, layout.ChunkAt(chunk.place)) == layout.chunk_size;
  return chunk;
}

template <typename T>
struct Forward {
  Problem<T> in;
  T* y[kMostPooled];
};

template <typename T>
struct Backward {
  Problem<T> in;
  const T* dy[kMostPooled];
  T* dgate;
  T* dx[kMostPooled];
  float* partials;  // [blocks, k, c]
  int64_t gate_rows;
  int64_t x_rows[kMostPooled];
  int64_t chunks;  // of all sequences
};

// Rows of a chunk that no gradient comes from, as far as the matrices have them.
template <typename T, int N>
__device__ __forceinline__ void ClearChunk(const Backward<T>& p, const Chunk& chunk, int64_t channel) {
  const SummaryLayout& layout = p.in.layout;
  const float nothing[N] = {};
  Vector<T, N> zero;
  zero.Set(nothing);
  const int rows = min(layout.chunk_size, layout.text_tokens - chunk.place * layout.chunk_size);
  for (int s = 0; s < rows; ++s) {
    const int64_t row = chunk.row + s;
    const int64_t at = row * p.in.c + channel;
    if (row < p.gate_rows) {
      zero.Store(p.dgate + at);
    }
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
      if (row < p.x_rows[i]) {
        zero.Store(p.dx[i] + at);
      }
    }
  }
}

// A whole chunk's rows of N channels, and the softmax over its slots. The largest gate is subtracted before the bias is
// added, which a large one would round away.
template <typename T, int N>
struct HeldChunk {
  using Rows = Vector<T, N>[kHeldSlots];

  Rows gate;
  Rows x[kMostPooled];
  float weight[kHeldSlots][N];

  // `at`: of the first row's channels.
  __device__ __forceinline__ void Load(const Problem<T>& p, int64_t at) {
    const int slots = p.layout.chunk_size;
#pragma unroll
    for (int s = 0; s < kHeldSlots; ++s) {
      if (s < slots) {
        gate[s].Load(p.gate + at + s * p.c);
      }
    }
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
#pragma unroll
      for (int s = 0; s < kHeldSlots; ++s) {
        if (s < slots && p.x[i] != nullptr) {
          x[i][s].Load(p.x[i] + at + s * p.c);
        }
      }
    }
  }

  __device__ __forceinline__ void Weigh(const Rows& bias, int slots) {
    float largest[N];
    float max[N];
    float sum[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      largest[e] = -INFINITY;
      max[e] = -INFINITY;
      sum[e] = 0.0F;
    }
#pragma unroll
    for (int s = 0; s < kHeldSlots; ++s) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        largest[e] = s < slots ? fmaxf(largest[e], gate[s][e]) : largest[e];
      }
    }
#pragma unroll
    for (int s = 0; s < kHeldSlots; ++s) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        weight[s][e] = s < slots ? (gate[s][e] - largest[e]) + bias[s][e] : -INFINITY;
        max[e] = fmaxf(max[e], weight[s][e]);
      }
    }
#pragma unroll
    for (int s = 0; s < kHeldSlots; ++s) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        weight[s][e] = device::Exp2((weight[s][e] - max[e]) * kLog2E);
        sum[e] += weight[s][e];
      }
    }
#pragma unroll
    for (int e = 0; e < N; ++e) {
      sum[e] = 1.0F / sum[e];
#pragma unroll
      for (int s = 0; s < kHeldSlots; ++s) {
        weight[s][e] *= sum[e];
      }
    }
  }

  // The sum over slots of weight · x[i].
  __device__ __forceinline__ void Pool(int i, int slots, float (&pooled)[N]) const {
#pragma unroll
    for (int e = 0; e < N; ++e) {
      pooled[e] = 0.0F;
    }
#pragma unroll
    for (int s = 0; s < kHeldSlots; ++s) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        pooled[e] = s < slots ? fmaf(weight[s][e], x[i][s][e], pooled[e]) : pooled[e];
      }
    }
  }
};

template <typename T, int N>
__device__ __forceinline__ void LoadBias(const Problem<T>& p, int64_t channel, Vector<T, N> (&bias)[kHeldSlots]) {
#pragma unroll
  for (int s = 0; s < kHeldSlots; ++s) {
    if (s < p.layout.chunk_size) {
      bias[s].Load(p.bias + s * p.c + channel);
    }
  }
}

// Blocks: entries along x, channels along y.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) HeldForwardKernel(const Forward<T> p) {
  device::WaitForKernelBefore();
  const int64_t channel = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (channel >= p.in.c) {
    return;
  }
  const int slots = p.in.layout.chunk_size;
  const Chunk chunk = ChunkOf(p.in.layout, blockIdx.x, p.in.layout.live_chunks);
  float pooled[kMostPooled][N] = {};
  if (chunk.is_whole) {
    HeldChunk<T, N> held;
    held.Load(p.in, chunk.row * p.in.c + channel);
    Vector<T, N> bias[kHeldSlots];
    LoadBias<T, N>(p.in, channel, bias);
    held.Weigh(bias, slots);
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
      if (p.in.x[i] != nullptr) {
        held.Pool(i, slots, pooled[i]);
      }
    }
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

// Gradients of a whole chunk, whose rows are held; `sums` of the bias's gradient grow.
template <typename T, int N>
__device__ __forceinline__ void HeldGradients(const Backward<T>& p,
                                              const HeldChunk<T, N>& held,
                                              const Vector<T, N> (&dy)[kMostPooled],
                                              int64_t at,
                                              float (&sums)[kHeldSlots][N]) {
  const int slots = p.in.layout.chunk_size;
  float pooled[kMostPooled][N];
#pragma unroll
  for (int i = 0; i < kMostPooled; ++i) {
    if (p.in.x[i] != nullptr) {
      held.Pool(i, slots, pooled[i]);
    }
  }
#pragma unroll
  for (int s = 0; s < kHeldSlots; ++s) {
    if (s >= slots) {
      continue;
    }
    float dgate[N] = {};
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
      if (p.in.x[i] != nullptr) {
        float dx[N];
#pragma unroll
        for (int e = 0; e < N; ++e) {
          dx[e] = held.weight[s][e] * dy[i][e];
          dgate[e] = fmaf(dx[e], held.x[i][s][e] - pooled[i][e], dgate[e]);
        }
        Vector<T, N> out;
        out.Set(dx);
        out.Store(p.dx[i] + at + s * p.in.c);
      }
    }
#pragma unroll
    for (int e = 0; e < N; ++e) {
      sums[s][e] += dgate[e];
    }
    Vector<T, N> out;
    out.Set(dgate);
    out.Store(p.dgate + at + s * p.in.c);
  }
}

// Blocks: shares of the chunks along x (block b takes chunks b, b + blocks, ...), channels along y.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads, 3) HeldBackwardKernel(const Backward<T> p) {
  device::WaitForKernelBefore();
  const int64_t channel = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  if (channel >= p.in.c) {
    return;
  }
  const int slots = p.in.layout.chunk_size;
  Vector<T, N> bias[kHeldSlots];
  LoadBias<T, N>(p.in, channel, bias);
  float sums[kHeldSlots][N] = {};
  for (int64_t index = blockIdx.x; index < p.chunks; index += gridDim.x) {
    const Chunk chunk = ChunkOf(p.in.layout, index, p.in.layout.chunks());
    if (!chunk.is_whole) {
      ClearChunk<T, N>(p, chunk, channel);
      continue;
    }
    const int64_t at = chunk.row * p.in.c + channel;
    HeldChunk<T, N> held;
    held.Load(p.in, at);
    Vector<T, N> dy[kMostPooled];
#pragma unroll
    for (int i = 0; i < kMostPooled; ++i) {
      if (p.in.x[i] != nullptr) {
        dy[i].Load(p.dy[i] + chunk.entry * p.in.c + channel);
      }
    }
    held.Weigh(bias, slots);
    HeldGradients<T, N>(p, held, dy, at, sums);
  }
  float* partials = p.partials + blockIdx.x * slots * p.in.c + channel;
#pragma unroll
  for (int s = 0; s < kHeldSlots; ++s) {
    if (s < slots) {
#pragma unroll
      for (int e = 0; e < N; ++e) {
        partials[s * p.in.c + e] = sums[s][e];
      }
    }
  }
}

}  // namespace ksa::cuda::pool
