// The plain path: one warp a row and head, its lanes over the head dim, everything in fp32. Any head dims up to 1024,
// of keys and of values.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/device.cuh"
#include "kernels/attention/plain/plain.h"
#include "kernels/core/cuda.h"
#include "kernels/core/error.h"

namespace ksa::cuda_attention::plain {
namespace {

constexpr int kWarps = 4;  // a block
constexpr int kBatch = 4;  // rows of the other side taken together, so that their loads and sums overlap

// Lane l holds elements l, l + 32, ... of a row; those behind the head dim are 0.
template <int kSlots>
struct Slice {
  float x[kSlots];
};

template <int kSlots, typename T>
__device__ Slice<kSlots> LoadRow(const T* row, int dim, float factor = 1.0F) {
  Slice<kSlots> slice;
#pragma unroll
  for (int s = 0; s < kSlots; ++s) {
    const int d = static_cast<int>(threadIdx.x) + 32 * s;
    slice.x[s] = d < dim ? factor * static_cast<float>(row[d]) : 0.0F;
  }
  return slice;
}

template <int kSlots, typename T>
__device__ void StoreRow(const Slice<kSlots>& slice, int dim, float factor, T* row) {
#pragma unroll
  for (int s = 0; s < kSlots; ++s) {
    const int d = static_cast<int>(threadIdx.x) + 32 * s;
    if (d < dim) {
      row[d] = static_cast<T>(factor * slice.x[s]);
    }
  }
}

// to += factor · row
template <int kSlots>
__device__ void AddScaled(float factor, const Slice<kSlots>& row, Slice<kSlots>& to) {
#pragma unroll
  for (int s = 0; s < kSlots; ++s) {
    to.x[s] = fmaf(factor, row.x[s], to.x[s]);
  }
}

// The same on all lanes.
template <int kSlots>
__device__ float Dot(const Slice<kSlots>& a, const Slice<kSlots>& b) {
  float sum = 0.0F;
#pragma unroll
  for (int s = 0; s < kSlots; ++s) {
    sum = fmaf(a.x[s], b.x[s], sum);
  }
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) {
    sum += __shfl_xor_sync(0xffffffffU, sum, lane);
  }
  return sum;
}

// Row numbers base + i, the last one again where there are no more.
__device__ inline int64_t RowInBatch(int32_t j, int i, int32_t count) {
  return j + i < count ? j + i : count - 1;
}

template <typename T>
struct Forward {
  Problem problem;
  const T* q;
  const T* k;
  const T* v;
  T* out;
  float* lse;
  int64_t first;  // row
  int64_t rows;
  int value_dim;
};

// Rows of a key/value head: what lies between them, and the columns of each.
struct KeyRows {
  int64_t pitch;  // elements
  int dim;
};

// Online softmax of one query: the largest score so far (base 2), and relative to it the sum and the output.
template <int kSlots>
struct Softmax {
  float max = -INFINITY;
  float sum = 0.0F;
  Slice<kSlots> out = {};

  // `q` is scaled.
  template <typename T>
  __device__ void Add(
      const Slice<kSlots>& q, const T* k, const KeyRows& keys, const T* v, const KeyRows& values, int32_t count) {
    for (int32_t j = 0; j < count; j += kBatch) {
      float score[kBatch];
      float next = max;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float dot = Dot(q, LoadRow<kSlots>(k + RowInBatch(j, i, count) * keys.pitch, keys.dim));
        score[i] = j + i < count ? dot : -INFINITY;
        next = fmaxf(next, score[i]);
      }
      const float shrink = exp2f(max - next);
      max = next;
      sum *= shrink;
#pragma unroll
      for (int s = 0; s < kSlots; ++s) {
        out.x[s] *= shrink;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float weight = exp2f(score[i] - max);
        sum += weight;
        AddScaled(weight, LoadRow<kSlots>(v + RowInBatch(j, i, count) * values.pitch, values.dim), out);
      }
    }
  }
};

template <typename T, int kSlots>
__global__ void __launch_bounds__(32 * kWarps) PlainForwardKernel(Forward<T> p) {
  const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.y;  // row, head
  if (index >= p.rows * p.problem.heads) {
    return;
  }
  const int dim = p.problem.dim;
  const int64_t row = p.first + index / p.problem.heads;
  const int64_t head = index % p.problem.heads;
  const int64_t at = row * p.problem.heads + head;
  const int64_t groups = p.problem.groups;
  const int64_t group = head / p.problem.queries_per_kv;
  const KeyRows of_keys = {groups * dim, dim};
  const KeyRows of_values = {groups * p.value_dim, p.value_dim};
  const Slice<kSlots> q = LoadRow<kSlots>(p.q + at * dim, dim, p.problem.scale_log2);
  const RowRanges keys = KeysOfRow(p.problem, row);
  Softmax<kSlots> softmax;
  for (int part = 0; part < 2; ++part) {
    const int64_t first = keys.first[part] * groups + group;
    softmax.Add(q, p.k + first * dim, of_keys, p.v + first * p.value_dim, of_values, keys.count[part]);
  }
  const bool sees = keys.count[0] + keys.count[1] > 0;
  StoreRow(softmax.out, p.value_dim, sees ? 1.0F / softmax.sum : 0.0F, p.out + at * p.value_dim);
  if (threadIdx.x == 0) {
    p.lse[at] = sees ? (softmax.max + log2f(softmax.sum)) * kLn2 : -INFINITY;
  }
}

template <typename T>
struct Backward {
  Problem problem;
  const T* q;
  const T* k;
  const T* v;
  const T* dout;
  const float* lse;
  const float* delta;
  T* dq;
  T* dk;
  T* dv;
  int64_t first;  // row
  int64_t rows;
  bool add_summary_queries;  // dk, dv: what summary queries contribute, added to text keys
  int value_dim;
};

template <typename T, int kSlots>
__global__ void __launch_bounds__(32 * kWarps) PlainBackwardQueriesKernel(Backward<T> p) {
  const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.y;  // row, head
  if (index >= p.rows * p.problem.heads) {
    return;
  }
  const int dim = p.problem.dim;
  const int64_t row = p.first + index / p.problem.heads;
  const int64_t head = index % p.problem.heads;
  const int64_t at = row * p.problem.heads + head;
  const int64_t groups = p.problem.groups;
  const Slice<kSlots> q = LoadRow<kSlots>(p.q + at * dim, dim, p.problem.scale_log2);
  const Slice<kSlots> dout = LoadRow<kSlots>(p.dout + at * p.value_dim, p.value_dim);
  const float lse = p.lse[at] * kLog2E;
  const float delta = p.delta[at];
  const RowRanges keys = KeysOfRow(p.problem, row);
  Slice<kSlots> dq = {};
  for (int part = 0; part < 2; ++part) {
    const int64_t first = keys.first[part] * groups + head / p.problem.queries_per_kv;
    const int32_t count = keys.count[part];
    for (int32_t j = 0; j < count; j += kBatch) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int64_t key = first + RowInBatch(j, i, count) * groups;
        const Slice<kSlots> k = LoadRow<kSlots>(p.k + key * dim, dim);
        const float weight = exp2f(Dot(q, k) - lse);
        const float dweight = Dot(dout, LoadRow<kSlots>(p.v + key * p.value_dim, p.value_dim));
        AddScaled(j + i < count ? weight * (dweight - delta) : 0.0F, k, dq);
      }
    }
  }
  StoreRow(dq, dim, p.problem.scale, p.dq + at * dim);
}

// What the queries of rows first, first + 1, ... and of one head add to the gradients of a key.
template <typename T, int kSlots>
__device__ void AddReaders(const Backward<T>& p,
                           int64_t first,
                           int32_t count,
                           int64_t head,
                           const Slice<kSlots>& k,
                           const Slice<kSlots>& v,
                           Slice<kSlots>& dk,
                           Slice<kSlots>& dv) {
  const int dim = p.problem.dim;
  for (int32_t j = 0; j < count; j += kBatch) {
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = (first + RowInBatch(j, i, count)) * p.problem.heads + head;
      const Slice<kSlots> q = LoadRow<kSlots>(p.q + at * dim, dim, p.problem.scale_log2);
      const Slice<kSlots> dout = LoadRow<kSlots>(p.dout + at * p.value_dim, p.value_dim);
      const float weight = j + i < count ? exp2f(Dot(q, k) - p.lse[at] * kLog2E) : 0.0F;
      AddScaled(weight, dout, dv);
      AddScaled(weight * (Dot(dout, v) - p.delta[at]), q, dk);
    }
  }
}

template <typename T, int kSlots>
__global__ void __launch_bounds__(32 * kWarps) PlainBackwardKeysKernel(Backward<T> p) {
  const int64_t index = int64_t{blockIdx.x} * kWarps + threadIdx.y;  // row, group
  if (index >= p.rows * p.problem.groups) {
    return;
  }
  const int dim = p.problem.dim;
  const int64_t row = p.first + index / p.problem.groups;
  const int64_t group = index % p.problem.groups;
  const int64_t at = row * p.problem.groups + group;
  T* own_dk = p.dk + at * dim;
  T* own_dv = p.dv + at * p.value_dim;
  RowRanges readers = ReadersOfRow(p.problem, row);
  Slice<kSlots> dk = {};
  Slice<kSlots> dv = {};
  if (p.add_summary_queries) {
    readers.count[0] = 0;
    if (row < p.problem.layout.text_rows()) {
      if (readers.count[1] == 0) {
        return;
      }
      dk = LoadRow<kSlots>(own_dk, dim, kLog2E);  // q comes scaled by log2(e)
      dv = LoadRow<kSlots>(own_dv, p.value_dim);
    }
  }
  const Slice<kSlots> k = LoadRow<kSlots>(p.k + at * dim, dim);
  const Slice<kSlots> v = LoadRow<kSlots>(p.v + at * p.value_dim, p.value_dim);
  for (int64_t head = group * p.problem.queries_per_kv; head < (group + 1) * p.problem.queries_per_kv; ++head) {
    for (int part = 0; part < 2; ++part) {
      AddReaders(p, readers.first[part], readers.count[part], head, k, v, dk, dv);
    }
  }
  StoreRow(dk, dim, kLn2, own_dk);
  StoreRow(dv, p.value_dim, 1.0F, own_dv);
}

// Calls function with the slots a lane needs for this head dim, as std::integral_constant.
template <typename Function>
void DispatchSlots(int64_t dim, const Function& function) {
  KSA_CHECK(dim <= 1024, "attention on a GPU holds head dims up to 1024, not {}", dim);
  if (dim <= 32) {
    function(std::integral_constant<int, 1>());
  } else if (dim <= 64) {
    function(std::integral_constant<int, 2>());
  } else if (dim <= 96) {
    function(std::integral_constant<int, 3>());
  } else if (dim <= 128) {
    function(std::integral_constant<int, 4>());
  } else if (dim <= 256) {
    function(std::integral_constant<int, 8>());
  } else {
    function(std::integral_constant<int, 32>());
  }
}

// Calls function(T{}, slots) for fp32 and bf16; slots for the wider of keys and values.
template <typename Function>
void Dispatch(const TensorView& q, const TensorView& v, const Function& function) {
  DispatchSlots(std::max(q.shape[2], v.shape[2]), [&](auto slots) {
    if (q.dtype == DType::kF32) {
      function(float{}, slots);
    } else {
      KSA_CHECK(q.dtype == DType::kBF16, "attention on a GPU takes fp32 and bf16, not {}", NameOf(q.dtype));
      function(BFloat16{}, slots);
    }
  });
}

cuda::LaunchShape OneWarpEach(int64_t rows, int64_t heads) {
  return {dim3(static_cast<unsigned>((rows * heads + kWarps - 1) / kWarps)), dim3(32, kWarps)};
}

template <typename T>
Backward<T> MakeBackward(const AttentionBackwardArgs& args, const TensorView& delta, int64_t first, int64_t rows) {
  return {.problem = MakeProblem(args),
          .q = args.q.As<T>(),
          .k = args.k.As<T>(),
          .v = args.v.As<T>(),
          .dout = args.dout.As<T>(),
          .lse = args.lse.As<float>(),
          .delta = delta.As<float>(),
          .dq = args.dq.As<T>(),
          .dk = args.dk.As<T>(),
          .dv = args.dv.As<T>(),
          .first = first,
          .rows = rows,
          .add_summary_queries = false,
          .value_dim = static_cast<int>(args.v.shape[2])};
}

void BackwardKeyRows(const AttentionBackwardArgs& args,
                     const TensorView& delta,
                     bool add_summary_queries,
                     const Stream& stream) {
  Dispatch(args.q, args.v, [&](auto element, auto slots) {
    using T = decltype(element);
    Backward<T> p = MakeBackward<T>(args, delta, 0, args.k.rows());
    p.add_summary_queries = add_summary_queries;
    cuda::Launch("PlainBackwardKeysKernel",
                 stream,
                 OneWarpEach(p.rows, args.k.shape[1]),
                 PlainBackwardKeysKernel<T, slots()>,
                 p);
  });
}

}  // namespace

void ForwardRows(const AttentionForwardArgs& args, int64_t first, int64_t count, const Stream& stream) {
  Dispatch(args.q, args.v, [&](auto element, auto slots) {
    using T = decltype(element);
    const Forward<T> p = {.problem = MakeProblem(args),
                          .q = args.q.As<T>(),
                          .k = args.k.As<T>(),
                          .v = args.v.As<T>(),
                          .out = args.out.As<T>(),
                          .lse = args.lse.As<float>(),
                          .first = first,
                          .rows = count,
                          .value_dim = static_cast<int>(args.v.shape[2])};
    cuda::Launch("PlainForwardKernel", stream, OneWarpEach(count, args.q.shape[1]), PlainForwardKernel<T, slots()>, p);
  });
}

void BackwardQueryRows(
    const AttentionBackwardArgs& args, const TensorView& delta, int64_t first, int64_t count, const Stream& stream) {
  Dispatch(args.q, args.v, [&](auto element, auto slots) {
    using T = decltype(element);
    cuda::Launch("PlainBackwardQueriesKernel",
                 stream,
                 OneWarpEach(count, args.q.shape[1]),
                 PlainBackwardQueriesKernel<T, slots()>,
                 MakeBackward<T>(args, delta, first, count));
  });
}

void AddSummaryQueriesToKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  BackwardKeyRows(args, delta, true, stream);
}

void ForwardText(const AttentionForwardArgs& args, const Stream& stream) {
  ForwardRows(args, args.layout.query_begin, args.layout.query_rows(), stream);
}

void BackwardQueries(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  BackwardQueryRows(args, delta, args.layout.query_begin, args.layout.query_rows(), stream);
}

void BackwardKeys(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  BackwardKeyRows(args, delta, false, stream);
}

}  // namespace ksa::cuda_attention::plain
