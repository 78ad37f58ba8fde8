// A block takes kKeysOfPart keys of one query and one head of keys, for as many heads of queries that read it as there
// is shared memory for, and leaves the largest score, the sum of exponentials and the weighted sum of values. A second
// kernel adds the parts of a query in their order. One query a head gives tensor cores nothing to do: what counts is
// that many loads are under way.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels/cache/cache_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/tensor.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kKeys = static_cast<int>(kKeysOfPart);
constexpr int kUnroll = 8;  // rows that a thread has under way at a time

// The second kernel: so many parts of a query are added at a time, a column a thread.
constexpr int kMergeColumns = 128;
constexpr int kMergeGroups = 4;
constexpr int kMergeThreads = kMergeColumns * kMergeGroups;

template <typename T>
struct Args {
  const T* q;
  const T* k;
  const T* v;  // null: the first columns of k
  const T* new_k;
  const T* new_v;
  const int32_t* spans;
  T* out;
  float* largest;   // [n, h, parts]
  float* sum;       // [n, h, parts]
  float* weighted;  // [n, h, parts, c]
  int heads;
  int key_heads;
  int group;   // heads of queries that a block takes
  int blocks;  // that a head of keys is taken by
  int e;
  int c;
  int parts;
  float scale;
};

// Where the part's keys lie: row numbers, those of new rows as ~row. -> how many there are.
template <typename T>
__device__ int FindRows(const Args<T>& p, int query, int part, int* rows) {
  const int32_t* span = p.spans + query * kKeySpans * 2;
  const int begin = part * kKeys;
  int total = 0;
  for (int s = 0; s < kKeySpans; ++s) {
    const int first = span[2 * s];
    const int count = span[2 * s + 1];
    for (int j = threadIdx.x; j < kKeys; j += kThreads) {
      const int at = begin + j - total;
      if (at >= 0 && at < count) {
        rows[j] = s == kKeySpans - 1 ? ~(first + at) : first + at;
      }
    }
    total += count;
  }
  const int left = total - begin;
  return left < 0 ? 0 : (left < kKeys ? left : kKeys);
}

template <typename T>
const __device__ __forceinline__ T* RowOf(const T* kept, const T* fresh, int row, int64_t pitch, int64_t offset) {
  return row < 0 ? fresh + ~row * pitch + offset : kept + row * pitch + offset;
}

// scores[head][j] of all keys: L lanes multiply one key with the query.
template <typename T, int N, int L>
__device__ void Score(
    const Args<T>& p, int key_head, int group, int count, const int* rows, const float* q, float* scores) {
  const int lane = threadIdx.x % L;
  constexpr int kAtOnce = kThreads / L;
  const int64_t pitch = int64_t{p.key_heads} * p.e;
  for (int first = threadIdx.x / L; first < (count + kAtOnce - 1) / kAtOnce * kAtOnce; first += kAtOnce * kUnroll) {
    const T* key[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int j = first + u * kAtOnce;
      key[u] = RowOf(p.k, p.new_k, rows[j < count ? j : count - 1], pitch, int64_t{key_head} * p.e);
    }
    for (int head = 0; head < group; ++head) {
      float dot[kUnroll] = {};
      for (int i = lane * N; i < p.e; i += L * N) {
        Vector<T, N> x[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          x[u].Load(key[u] + i);
        }
#pragma unroll
        for (int d = 0; d < N; ++d) {
          const float of = q[head * p.e + i + d];
#pragma unroll
          for (int u = 0; u < kUnroll; ++u) {
            dot[u] = fmaf(of, x[u][d], dot[u]);
          }
        }
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const float score = device::GroupSum(dot[u], L);
        const int j = first + u * kAtOnce;
        if (lane == 0 && j < count) {
          scores[head * kKeys + j] = score;
        }
      }
    }
  }
}

// Scores become exp(score - largest), a warp a head. -> by head in shared memory.
__device__ void Weigh(int group, int count, float* scores, float* largest, float* sum) {
  for (int head = threadIdx.x / 32; head < group; head += kWarps) {
    float* score = scores + head * kKeys;
    float most = -FLT_MAX;
    for (int j = threadIdx.x % 32; j < count; j += 32) {
      most = fmaxf(most, score[j]);
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, offset));
    }
    float total = 0.0F;
    for (int j = threadIdx.x % 32; j < count; j += 32) {
      const float weight = expf(score[j] - most);
      score[j] = weight;
      total += weight;
    }
    total = device::WarpSum(total);
    if (threadIdx.x % 32 == 0) {
      largest[head] = most;
      sum[head] = total;
    }
  }
}

// The weighted sum of values of one head: a thread a vector of columns and every so many-th key; `partial` [kThreads ·
// N] in shared memory.
template <typename T, int N, typename Finish>
__device__ void AddValues(const Args<T>& p,
                          int key_head,
                          int count,
                          const int* rows,
                          const float* weights,
                          float* partial,
                          const Finish& finish) {
  const bool own = p.v != nullptr;
  const T* kept = own ? p.v : p.k;
  const T* fresh = own ? p.new_v : p.new_k;
  const int width = own ? p.c : p.e;
  const int64_t pitch = int64_t{p.key_heads} * width;
  const int vectors = p.c / N;
  for (int base = 0; base < vectors; base += kThreads) {  // wider values than a block has vectors: again
    const int here = vectors - base < kThreads ? vectors - base : kThreads;
    const int at_once = kThreads / here;  // keys
    const int column = (base + static_cast<int>(threadIdx.x) % here) * N;
    const int first = static_cast<int>(threadIdx.x) / here;
    float total[N] = {};
    if (first < at_once) {
      for (int j = first; j < count; j += at_once * kUnroll) {
        Vector<T, N> x[kUnroll];
        float weight[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          const int at = j + u * at_once;
          weight[u] = at < count ? weights[at] : 0.0F;
          x[u].Load(RowOf(kept, fresh, rows[at < count ? at : j], pitch, int64_t{key_head} * width) + column);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
          for (int d = 0; d < N; ++d) {
            total[d] = fmaf(weight[u], x[u][d], total[d]);
          }
        }
      }
    }
#pragma unroll
    for (int d = 0; d < N; ++d) {
      partial[threadIdx.x * N + d] = total[d];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < here * N; i += kThreads) {
      float all = 0.0F;
      for (int row = 0; row < at_once; ++row) {
        all += partial[row * here * N + i];
      }
      finish(base * N + i, all);
    }
    __syncthreads();
  }
}

// Grid: [parts, heads of keys · blocks, queries].
template <typename T, int N, int L>
__global__ void __launch_bounds__(kThreads) PartKernel(const Args<T> p) {
  device::WaitForKernelBefore();
  device::LetNextKernelBegin();
  extern __shared__ float shared[];
  float* q = shared;                                  // [group, e]
  float* scores = q + p.group * p.e;                  // [group, kKeys]
  float* partial = scores + p.group * kKeys;          // [kThreads, N]
  float* largest = partial + kThreads * N;            // [group]
  float* sum = largest + p.group;                     // [group]
  int* rows = reinterpret_cast<int*>(sum + p.group);  // [kKeys]
  const int part = blockIdx.x;
  const int key_head = blockIdx.y / p.blocks;
  const int first = blockIdx.y % p.blocks * p.group;  // of the heads that read key_head
  const int query = blockIdx.z;
  const int readers = p.heads / p.key_heads;
  const int group = readers - first < p.group ? readers - first : p.group;
  const int64_t first_head = int64_t{query} * p.heads + key_head * readers + first;
  for (int i = threadIdx.x; i < group * p.e; i += kThreads) {
    Vector<T, 1> x;
    x.Load(p.q + first_head * p.e + i);
    q[i] = p.scale * x[0];
  }
  const int count = FindRows(p, query, part, rows);
  __syncthreads();
  if (count == 0) {
    for (int head = threadIdx.x; head < group; head += kThreads) {
      const int64_t at = (first_head + head) * p.parts + part;
      p.largest[at] = -FLT_MAX;
      p.sum[at] = 0.0F;
    }
    return;  // nobody reads the weighted sum
  }
  Score<T, N, L>(p, key_head, group, count, rows, q, scores);
  __syncthreads();
  Weigh(group, count, scores, largest, sum);
  __syncthreads();
  for (int head = 0; head < group; ++head) {
    const int64_t at = (first_head + head) * p.parts + part;
    if (threadIdx.x == 0) {
      p.largest[at] = largest[head];
      p.sum[at] = sum[head];
    }
    AddValues<T, N>(p, key_head, count, rows, scores + head * kKeys, partial, [&](int column, float value) {
      p.weighted[at * p.c + column] = value;
    });
  }
}

// The largest score of all parts of a query's head that have keys, and how many these are: they come first.
__device__ int FindUsed(const float* largest, const float* sum, int parts, float& all) {
  __shared__ float most[kMergeThreads / 32];
  __shared__ int counts[kMergeThreads / 32];
  float mine = -FLT_MAX;
  int used = 0;
  for (int part = threadIdx.x; part < parts; part += kMergeThreads) {
    if (sum[part] != 0.0F) {  // NaN has keys as well
      mine = fmaxf(mine, largest[part]);
      ++used;
    }
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    mine = fmaxf(mine, __shfl_xor_sync(0xffffffffU, mine, offset));
    used += __shfl_xor_sync(0xffffffffU, used, offset);
  }
  if (threadIdx.x % 32 == 0) {
    most[threadIdx.x / 32] = mine;
    counts[threadIdx.x / 32] = used;
  }
  __syncthreads();
  all = most[0];
  used = counts[0];
#pragma unroll
  for (int warp = 1; warp < kMergeThreads / 32; ++warp) {
    all = fmaxf(all, most[warp]);
    used += counts[warp];
  }
  return used;
}

// Grid: [heads, queries]. Shared memory: [parts].
template <typename T>
__global__ void __launch_bounds__(kMergeThreads) MergeKernel(const Args<T> p) {
  device::WaitForKernelBefore();
  extern __shared__ float factors[];
  __shared__ float partial[kMergeThreads];
  __shared__ float total;
  const int64_t i = int64_t{blockIdx.y} * p.heads + blockIdx.x;
  const float* largest = p.largest + i * p.parts;
  const float* sum = p.sum + i * p.parts;
  const float* weighted = p.weighted + i * p.parts * p.c;
  float all = 0.0F;
  const int used = FindUsed(largest, sum, p.parts, all);
  for (int part = threadIdx.x; part < used; part += kMergeThreads) {
    factors[part] = expf(largest[part] - all);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    float mine = 0.0F;
    for (int part = threadIdx.x; part < used; part += 32) {
      mine = fmaf(factors[part], sum[part], mine);
    }
    mine = device::WarpSum(mine);
    if (threadIdx.x == 0) {
      total = mine;
    }
  }
  const int column = static_cast<int>(threadIdx.x) % kMergeColumns;
  const int group = static_cast<int>(threadIdx.x) / kMergeColumns;
  for (int base = 0; base < p.c; base += kMergeColumns) {
    float value = 0.0F;
    if (base + column < p.c) {
#pragma unroll 8
      for (int part = group; part < used; part += kMergeGroups) {
        value = fmaf(factors[part], weighted[int64_t{part} * p.c + base + column], value);
      }
    }
    partial[threadIdx.x] = value;
    __syncthreads();
    if (group == 0 && base + column < p.c) {
#pragma unroll
      for (int g = 1; g < kMergeGroups; ++g) {
        value += partial[g * kMergeColumns + column];
      }
      const float result[1] = {total != 0.0F ? value / total : 0.0F};
      Vector<T, 1> x;
      x.Set(result);
      x.Store(p.out + i * p.c + base + column);
    }
    __syncthreads();
  }
}

template <typename T, int N>
void Run(const CachedAttentionArgs& args, Allocator& scratch, const Stream& stream) {
  const int64_t n = args.q.rows();
  const int64_t h = args.q.shape[1];
  const int64_t g = args.k.shape[1];
  const int64_t e = args.q.shape[2];
  const int64_t c = args.out.shape[2];
  const int64_t parts = args.most_keys > 0 ? KeyParts(args.most_keys) : 1;
  const Tensor largest = Tensor::Empty({n, h, parts}, DType::kF32, scratch);
  const Tensor sum = Tensor::Empty({n, h, parts}, DType::kF32, scratch);
  const Tensor weighted = Tensor::Empty({n * h, parts, c}, DType::kF32, scratch);
  // Heads that share keys read them once, where a block has room for all.
  constexpr int64_t kMostShared = 96 * 1024 / static_cast<int64_t>(sizeof(float));
  const int64_t a_head = e + kKeys + 2;
  const int64_t fixed = kThreads * N + kKeys;
  const int64_t group = std::clamp<int64_t>((kMostShared - fixed) / a_head, 1, h / g);
  const int64_t blocks = (h / g + group - 1) / group;
  const double scale = args.scale > 0.0 ? args.scale : 1.0 / std::sqrt(static_cast<double>(e));
  const Args<T> p = {.q = args.q.As<T>(),
                     .k = args.k.As<T>(),
                     .v = args.v.As<T>(),
                     .new_k = args.new_k.As<T>(),
                     .new_v = args.new_v.As<T>(),
                     .spans = args.spans.As<int32_t>(),
                     .out = args.out.As<T>(),
                     .largest = largest.As<float>(),
                     .sum = sum.As<float>(),
                     .weighted = weighted.As<float>(),
                     .heads = static_cast<int>(h),
                     .key_heads = static_cast<int>(g),
                     .group = static_cast<int>(group),
                     .blocks = static_cast<int>(blocks),
                     .e = static_cast<int>(e),
                     .c = static_cast<int>(c),
                     .parts = static_cast<int>(parts),
                     .scale = static_cast<float>(scale)};
  const auto count = [](int64_t x) { return static_cast<unsigned>(x); };
  const auto bytes = [](int64_t numbers) { return static_cast<size_t>(numbers) * sizeof(float); };
  Launch("CachedAttention",
         stream,
         {.grid = dim3(count(parts), count(g * blocks), count(n)),
          .block = dim3(kThreads),
          .shared_bytes = bytes(group * a_head + fixed),
          .early = true},
         e > 8 * N ? PartKernel<T, N, 16> : PartKernel<T, N, 8>,
         p);
  Launch("CachedAttention",
         stream,
         {.grid = dim3(count(h), count(n)), .block = dim3(kMergeThreads), .shared_bytes = bytes(parts), .early = true},
         MergeKernel<T>,
         p);
}

}  // namespace

void CachedAttention(const CachedAttentionArgs& args, Allocator& scratch, const Stream& stream) {
  DispatchGpu(args.q.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = device::kVectorElements<T>;
    const bool aligned = device::IsAligned16(args.k.data) && device::IsAligned16(args.v.data) &&
                         device::IsAligned16(args.new_k.data) && device::IsAligned16(args.new_v.data);
    if (aligned && args.q.shape[2] % kWide == 0 && args.out.shape[2] % kWide == 0) {
      Run<T, kWide>(args, scratch, stream);
    } else {
      Run<T, 1>(args, scratch, stream);
    }
  });
}

}  // namespace ksa::cuda
