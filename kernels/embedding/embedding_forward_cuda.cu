#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/vector.cuh"
#include "kernels/embedding/embedding_backends.h"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kForwardWarps = 4;

template <typename T>
struct ForwardArgs {
  const int32_t* ids;
  const T* table;
  const T* summary_table;  // null: summary rows are zeros
  T* y;
  int64_t rows;
  int64_t text_rows;
  int64_t table_rows;
  int64_t first_id;    // of the table
  int64_t vocabulary;  // ids of all parts of it
  int64_t summary_tokens;
  int64_t first_summary;  // the id of summary 0; < 0: it is in its own table
  int64_t d;
};

// Where row `row` is read from, or else what it is filled with.
template <typename T>
struct Source {
  __device__ Source(const ForwardArgs<T>& p, int64_t row) {
    int64_t id = 0;
    if (row < p.text_rows) {
      id = p.ids[row];
    } else {
      const int64_t a = (row - p.text_rows) % p.summary_tokens;
      if (p.first_summary < 0) {
        from = p.summary_table == nullptr ? nullptr : p.summary_table + a * p.d;
        return;
      }
      id = p.first_summary + a;
    }
    const int64_t at = id - p.first_id;
    if (at >= 0 && at < p.table_rows) {
      from = p.table + at * p.d;
    } else if (id < 0 || id >= p.vocabulary) {
      fill = __int_as_float(0x7fffffff);  // NaN
    }
  }

  const T* from = nullptr;
  float fill = 0.0F;
};

// A warp a row.
template <typename T, int N>
__global__ void __launch_bounds__(32 * kForwardWarps) EmbeddingForwardKernel(const ForwardArgs<T> p) {
  constexpr int kUnroll = 4;
  const int64_t row = int64_t{blockIdx.x} * kForwardWarps + threadIdx.x / 32;
  if (row >= p.rows) {
    return;
  }
  const Source<T> source(p, row);
  float filled[N];
#pragma unroll
  for (int e = 0; e < N; ++e) {
    filled[e] = source.fill;
  }
  constexpr int64_t kStep = 32 * N;
  for (int64_t i = threadIdx.x % 32 * N; i < p.d; i += kUnroll * kStep) {
    Vector<T, N> v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * kStep < p.d && source.from != nullptr) {
        v[u].Load(source.from + i + u * kStep);
      } else {
        v[u].Set(filled);
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (i + u * kStep < p.d) {
        v[u].Store(p.y + row * p.d + i + u * kStep);
      }
    }
  }
}

template <typename T, int N>
void Forward(const EmbeddingForwardArgs& args, const Stream& stream) {
  const int64_t rows = args.y.rows();
  const ForwardArgs<T> p{.ids = args.ids.As<int32_t>(),
                         .table = args.table.As<T>(),
                         .summary_table = args.summaries.contributes ? args.summary_table.As<T>() : nullptr,
                         .y = args.y.As<T>(),
                         .rows = rows,
                         .text_rows = args.layout.text_rows(),
                         .table_rows = args.table.rows(),
                         .first_id = args.shard.first_id,
                         .vocabulary = VocabularyOf(args.shard, args.table.rows()),
                         .summary_tokens = args.layout.summary_tokens,
                         .first_summary = args.summaries.first_id,
                         .d = args.y.cols()};
  const auto blocks = static_cast<unsigned>((rows + kForwardWarps - 1) / kForwardWarps);
  Launch("EmbeddingForward", stream, {dim3(blocks), dim3(32 * kForwardWarps)}, EmbeddingForwardKernel<T, N>, p);
}

}  // namespace

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.table.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = device::kVectorElements<T>;
    const bool aligned = device::IsAligned16(args.table.data) && device::IsAligned16(args.summary_table.data) &&
                         device::IsAligned16(args.y.data);
    if (aligned && args.y.cols() % kWide == 0) {
      Forward<T, kWide>(args, stream);
    } else {
      Forward<T, 1>(args, stream);
    }
  });
}

}  // namespace ksa::cuda
