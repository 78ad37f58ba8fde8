// A block takes kKeysOfPart keys of one query and one head of keys, for all heads of queries that read it, and leaves
// the largest score, the sum of exponentials and the weighted sum of values. A second kernel adds the parts of a query
// in their order. One query a head gives tensor cores nothing to do: what counts is that many loads are under way.
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels/cache/cache_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/tensor.h"
#include "kernels/device/reduce.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kKeys = static_cast<int>(kKeysOfPart);
constexpr int kLanesOfKey = 8;  // that multiply one key with the query
constexpr int kUnroll = 4;

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

// scores[head][j] of all keys: kLanesOfKey lanes a key, kUnroll keys of a group of lanes under way at a time.
template <typename T, int N>
__device__ void Score(
    const Args<T>& p, int key_head, int group, int count, const int* rows, const float* q, float* scores) {
  const int lane = threadIdx.x % kLanesOfKey;
  constexpr int kAtOnce = kThreads / kLanesOfKey;
  const int64_t pitch = int64_t{p.key_heads} * p.e;
  for (int first = threadIdx.x / kLanesOfKey; first < (count + kAtOnce - 1) / kAtOnce * kAtOnce;
       first += kAtOnce * kUnroll) {
    const T* key[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int j = first + u * kAtOnce;
      key[u] = RowOf(p.k, p.new_k, rows[j < count ? j : count - 1], pitch, int64_t{key_head} * p.e);
    }
    for (int head = 0; head < group; ++head) {
      float dot[kUnroll] = {};
      for (int i = lane * N; i < p.e; i += kLanesOfKey * N) {
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
        const float score = device::GroupSum(dot[u], kLanesOfKey);
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

// Grid: [parts, heads of keys, queries].
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) PartKernel(const Args<T> p) {
  extern __shared__ float shared[];
  const int group = p.heads / p.key_heads;
  float* q = shared;                                // [group, e]
  float* scores = q + group * p.e;                  // [group, kKeys]
  float* partial = scores + group * kKeys;          // [kThreads, N]
  float* largest = partial + kThreads * N;          // [group]
  float* sum = largest + group;                     // [group]
  int* rows = reinterpret_cast<int*>(sum + group);  // [kKeys]
  const int part = blockIdx.x;
  const int key_head = blockIdx.y;
  const int query = blockIdx.z;
  const int64_t first_head = int64_t{query} * p.heads + key_head * group;
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
  Score<T, N>(p, key_head, group, count, rows, q, scores);
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

// Grid: [heads, queries].
template <typename T>
__global__ void __launch_bounds__(kThreads) MergeKernel(const Args<T> p) {
  const int64_t i = int64_t{blockIdx.y} * p.heads + blockIdx.x;
  const float* largest = p.largest + i * p.parts;
  const float* sum = p.sum + i * p.parts;
  float all = -FLT_MAX;
  for (int part = 0; part < p.parts; ++part) {
    all = fmaxf(all, largest[part]);
  }
  for (int column = threadIdx.x; column < p.c; column += kThreads) {
    float total = 0.0F;
    float value = 0.0F;
    for (int part = 0; part < p.parts; ++part) {
      if (sum[part] > 0.0F) {
        const float factor = expf(largest[part] - all);
        total = fmaf(factor, sum[part], total);
        value = fmaf(factor, p.weighted[(i * p.parts + part) * p.c + column], value);
      }
    }
    const float result[1] = {total > 0.0F ? value / total : 0.0F};
    Vector<T, 1> x;
    x.Set(result);
    x.Store(p.out + i * p.c + column);
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
                     .e = static_cast<int>(e),
                     .c = static_cast<int>(c),
                     .parts = static_cast<int>(parts),
                     .scale = static_cast<float>(scale)};
  const int64_t group = h / g;
  const int64_t floats = group * (e + kKeys + 2) + kThreads * N + kKeys;
  const auto count = [](int64_t x) { return static_cast<unsigned>(x); };
  Launch("CachedAttention",
         stream,
         {dim3(count(parts), count(g), count(n)), dim3(kThreads), static_cast<size_t>(floats) * sizeof(float)},
         PartKernel<T, N>,
         p);
  Launch("CachedAttention", stream, {dim3(count(h), count(n)), dim3(kThreads)}, MergeKernel<T>, p);
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
