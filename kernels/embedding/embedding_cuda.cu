#include <algorithm>

#include "kernels/core/checks.h"
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/embedding/embedding_backends.h"
#include "kernels/embedding/embedding_scratch.h"
#include "kernels/embedding/token_order.cuh"

namespace ksa::cuda {
namespace {

using device::Vector;
using embedding::Entry;

// Backward adds up the rows in the order of their ids, kRange of them a block. Ids whose rows all lie in one range are
// added to the table at once. Of an id whose rows go on in the next range, the range that they begin in keeps its part
// in tails, the others theirs in heads, for JoinRangesKernel.
constexpr int kRange = kEmbeddingRange;
constexpr int kSumThreads = 256;

template <typename T>
struct SumArgs {
  const Entry* entries;
  const T* dy;
  float* dtable;
  float* heads;  // [ranges, d]
  float* tails;  // [ranges, d]
  int n;
  int table_rows;
  int64_t d;
};

// Ids that reach over the borders of a range; -1: none does.
struct OpenIds {
  template <typename T>
  __device__ OpenIds(const SumArgs<T>& p, int begin, int end) {
    const int first = p.entries[begin].x;
    const int last = p.entries[end - 1].x;
    head = begin > 0 && p.entries[begin - 1].x == first ? first : -1;
    tail = end < p.n && p.entries[end].x == last && last != head ? last : -1;
  }

  int head;
  int tail;
};

// Thread t of a block has columns [N t, N t + N) of the block's part of the columns.
template <typename T, int N>
__global__ void __launch_bounds__(kSumThreads) SumRangesKernel(const SumArgs<T> p) {
  constexpr int kBatch = 8;  // rows on their way at once
  __shared__ Entry entries[kRange];
  const int range = static_cast<int>(blockIdx.x);
  const int begin = range * kRange;
  const int count = min(kRange, p.n - begin);
  if (static_cast<int>(threadIdx.x) < count) {
    entries[threadIdx.x] = p.entries[begin + static_cast<int>(threadIdx.x)];
  }
  const OpenIds open(p, begin, begin + count);
  __syncthreads();
  const int64_t c = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (c >= p.d) {
    return;
  }
  const auto starts = [&](int j) { return j == 0 || entries[j].x != entries[j - 1].x; };
  const auto direct = [&](int j) {
    const int id = entries[j].x;
    return id != open.head && id != open.tail;
  };
  float sum[N];
  for (int first = 0; first < count; first += kBatch) {
    Vector<T, N> rows[kBatch];
    Vector<float, N> old[kBatch];
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      const int j = first + u;
      if (j < count && entries[j].x < p.table_rows) {
        rows[u].Load(p.dy + entries[j].y * p.d + c);
        if (starts(j) && direct(j)) {
          old[u].Load(p.dtable + entries[j].x * p.d + c);
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      const int j = first + u;
      if (j < count && entries[j].x < p.table_rows) {
        const bool start = starts(j);
#pragma unroll
        for (int e = 0; e < N; ++e) {
          const float before = !start ? sum[e] : direct(j) ? old[u][e] : 0.0F;
          sum[e] = before + rows[u][e];
        }
        if (j == count - 1 || starts(j + 1)) {
          const int id = entries[j].x;
          float* to = id == open.head   ? p.heads + range * p.d
                      : id == open.tail ? p.tails + range * p.d
                                        : p.dtable + id * p.d;
          Vector<float, N> out;
          out.Set(sum);
          out.Store(to + c);
        }
      }
    }
  }
}

// The block of a range in which an id begins that goes on: table + tail + heads of the ranges behind, in this order.
template <typename T, int N>
__global__ void __launch_bounds__(kSumThreads) JoinRangesKernel(const SumArgs<T> p) {
  constexpr int kBatch = 8;
  const int range = static_cast<int>(blockIdx.x);
  const int begin = range * kRange;
  const OpenIds open(p, begin, min(p.n, begin + kRange));
  const int id = open.tail;
  const int64_t c = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (id < 0 || id >= p.table_rows || c >= p.d) {
    return;
  }
  Vector<float, N> part;
  float sum[N];
  part.Load(p.dtable + id * p.d + c);
#pragma unroll
  for (int e = 0; e < N; ++e) {
    sum[e] = part[e];
  }
  part.Load(p.tails + range * p.d + c);
#pragma unroll
  for (int e = 0; e < N; ++e) {
    sum[e] += part[e];
  }
  const int ranges = static_cast<int>(gridDim.x);
  bool more = true;
  for (int next = range + 1; more; next += kBatch) {
    bool mine[kBatch];
    Vector<float, N> heads[kBatch];
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      mine[u] = next + u < ranges && p.entries[(next + u) * kRange].x == id;
    }
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      if (mine[u]) {
        heads[u].Load(p.heads + (next + u) * p.d + c);
      }
    }
#pragma unroll
    for (int u = 0; u < kBatch; ++u) {
      if (mine[u]) {
#pragma unroll
        for (int e = 0; e < N; ++e) {
          sum[e] += heads[u][e];
        }
      }
    }
    more = mine[kBatch - 1];
  }
  part.Set(sum);
  part.Store(p.dtable + id * p.d + c);
}

// Sums of kRange rows of summary `blockIdx.z` of the chunks: partials [m, slices, d].
template <typename T, int N>
__global__ void __launch_bounds__(kSumThreads)
    SumSummariesKernel(const T* dy, int64_t chunks, int64_t summary_tokens, int64_t d, float* partials) {
  const int64_t c = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * N;
  if (c >= d) {
    return;
  }
  const int64_t begin = int64_t{blockIdx.x} * kRange;
  const int64_t end = min(chunks, begin + kRange);
  float sum[N] = {};
#pragma unroll 8
  for (int64_t i = begin; i < end; ++i) {
    Vector<T, N> row;
    row.Load(dy + (i * summary_tokens + blockIdx.z) * d + c);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      sum[e] += row[e];
    }
  }
  Vector<float, N> out;
  out.Set(sum);
  out.Store(partials + (int64_t{blockIdx.z} * gridDim.x + blockIdx.x) * d + c);
}

// Blocks of threads with N columns each.
template <int N>
LaunchShape SumShape(int64_t ranges, int64_t d, int64_t depth) {
  const int64_t threads = std::min<int64_t>(kSumThreads, (d / N + 31) / 32 * 32);
  const int64_t tiles = (d + threads * N - 1) / (threads * N);
  return {dim3(static_cast<unsigned>(ranges), static_cast<unsigned>(tiles), static_cast<unsigned>(depth)),
          dim3(static_cast<unsigned>(threads))};
}

template <typename T, int N>
void BackwardText(const EmbeddingBackwardArgs& args, Allocator& scratch, const Stream& stream) {
  const int64_t n = args.layout.text_rows();
  const int64_t d = args.dy.cols();
  const int64_t ranges = EmbeddingRanges(n);
  const auto [order, parts] = TakeEmbeddingTextScratch(args, scratch);
  if (n == 0) {
    return;
  }
  auto* even = reinterpret_cast<Entry*>(order.As<int32_t>());
  Entry* odd = even + n;
  const auto table_rows = static_cast<int>(args.dtable.rows());
  const int passes = embedding::OrderPasses(table_rows);
  Launch("EmbeddingBackward",
         stream,
         {dim3(1), dim3(embedding::kOrderThreads)},
         embedding::TokenOrderKernel,
         args.ids.As<int32_t>(),
         n,
         args.shard.first_id,
         table_rows,
         passes,
         even,
         odd);
  const SumArgs<T> p{.entries = passes % 2 == 0 ? even : odd,
                     .dy = args.dy.As<T>(),
                     .dtable = args.dtable.As<float>(),
                     .heads = parts.As<float>(),
                     .tails = parts.As<float>() + ranges * d,
                     .n = static_cast<int>(n),
                     .table_rows = table_rows,
                     .d = d};
  Launch("EmbeddingBackward", stream, SumShape<N>(ranges, d, 1), SumRangesKernel<T, N>, p);
  Launch("EmbeddingBackward", stream, SumShape<N>(ranges, d, 1), JoinRangesKernel<T, N>, p);
}

// Where the gradients of summaries [begin, end) go: row a of `to`. Summaries outside are other parts' or nobody's.
struct SummaryTarget {
  Range summaries;
  float* to = nullptr;  // of summary `begin`
};

SummaryTarget SummaryTargetOf(const EmbeddingBackwardArgs& args) {
  const Range held = WantedSummaries(args);
  if (args.summaries.first_id == SummaryStart::kOwnTable) {
    return {held, args.dsummary_table.As<float>()};
  }
  const int64_t row = held.size() > 0 ? args.summaries.first_id + held.begin - args.shard.first_id : 0;
  return {held, args.dtable.As<float>() + row * args.dy.cols()};
}

template <typename T, int N>
void BackwardSummaries(const EmbeddingBackwardArgs& args, Allocator& scratch, const Stream& stream) {
  const Tensor partials = EmbeddingSummaryPartials(args, scratch);
  if (partials.empty()) {
    return;
  }
  const SummaryTarget target = SummaryTargetOf(args);
  const int64_t m = args.layout.summary_tokens;
  const int64_t wanted = target.summaries.size();
  const int64_t d = args.dy.cols();
  const int64_t chunks = args.layout.summary_rows() / m;
  const int64_t slices = EmbeddingRanges(chunks);
  const T* dy = args.dy.As<T>() + (args.layout.text_rows() + target.summaries.begin) * d;
  Launch("EmbeddingBackward",
         stream,
         SumShape<N>(slices, d, wanted),
         SumSummariesKernel<T, N>,
         dy,
         chunks,
         m,
         d,
         partials.As<float>());
  for (int64_t a = 0; a < wanted; ++a) {
    const device::ColumnSum sum{partials.As<float>() + a * slices * d, slices, target.to + a * d, true};
    device::ColumnSums("EmbeddingBackward", sum, {}, d, stream);
  }
}

template <typename T, int N>
void Backward(const EmbeddingBackwardArgs& args, const Stream& stream) {
  Allocator& scratch = RequireScratch("EmbeddingBackward", args.allocator);
  if (!args.dtable.empty()) {
    BackwardText<T, N>(args, scratch, stream);
  }
  BackwardSummaries<T, N>(args, scratch, stream);
}

}  // namespace

void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.dy.dtype, [&](auto element) {
    using T = decltype(element);
    const bool aligned = device::IsAligned16(args.dy.data) && device::IsAligned16(args.dtable.data);
    if (aligned && args.dy.cols() % 4 == 0) {
      Backward<T, 4>(args, stream);
    } else {
      Backward<T, 1>(args, stream);
    }
  });
}

}  // namespace ksa::cuda
