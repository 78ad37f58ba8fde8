// A block takes a row: copies of a few hundred bytes a head, 16 bytes at a time where columns allow it.
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/latent/latent_heads_backends.h"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 128;

template <typename T>
struct Rotation {
  const T* x;
  const float* table;
  T* y;
  SummaryLayout layout;
  int64_t first_row;
  int h;
  int nope;
  int half;     // of the rotated columns
  float turns;  // 1, or -1: back
};

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) RotateTailsKernel(const Rotation<T> p) {
  device::WaitForKernelBefore();
  const int64_t row = blockIdx.x;
  const float* angles = p.table + int64_t{p.layout.Position(p.first_row + row)} * p.half * 2;
  const int e = p.nope + 2 * p.half;
  const int pieces = (p.nope + p.half) / N;  // of a head: copies, then pairs to turn
  for (int i = static_cast<int>(threadIdx.x); i < p.h * pieces; i += kThreads) {
    const int64_t head = (row * p.h + i / pieces) * e;
    const int column = i % pieces * N;
    Vector<T, N> first;
    first.Load(p.x + head + column);
    if (column < p.nope) {
      first.Store(p.y + head + column);
      continue;
    }
    Vector<T, N> second;
    second.Load(p.x + head + column + p.half);
    float turned[2][N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const int at = 2 * (column - p.nope + k);
      const float cos = angles[at];
      const float sin = p.turns * angles[at + 1];
      turned[0][k] = first[k] * cos - second[k] * sin;
      turned[1][k] = second[k] * cos + first[k] * sin;
    }
    first.Set(turned[0]);
    second.Set(turned[1]);
    first.Store(p.y + head + column);
    second.Store(p.y + head + column + p.half);
  }
}

// Columns of heads.
struct Columns {
  int h;
  int nope;
  int rope;
  int values;
};

template <typename T>
struct Heads {
  const T* kv;
  const T* rope;
  T* k;
  T* v;
  Columns columns;
};

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) LatentHeadsForwardKernel(const Heads<T> p) {
  device::WaitForKernelBefore();
  const auto [h, nope, rope, values] = p.columns;
  const int64_t row = blockIdx.x;
  const int pieces = (nope + rope + values) / N;
  for (int i = static_cast<int>(threadIdx.x); i < h * pieces; i += kThreads) {
    const int64_t head = row * h + i / pieces;
    const int column = i % pieces * N;  // of [nope | rope | values]
    const bool of_key = column < nope + rope;
    const bool is_shared = of_key && column >= nope;
    const T* from = is_shared ? p.rope + row * rope + (column - nope)
                              : p.kv + head * (nope + values) + (of_key ? column : column - rope);
    Vector<T, N> x;
    x.Load(from);
    x.Store(of_key ? p.k + head * (nope + rope) + column : p.v + head * values + (column - nope - rope));
  }
}

template <typename T>
struct HeadGradients {
  const T* dk;
  const T* dv;
  T* dkv;
  T* drope;
  Columns columns;
};

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) LatentHeadsBackwardKernel(const HeadGradients<T> p) {
  device::WaitForKernelBefore();
  const auto [h, nope, rope, values] = p.columns;
  const int64_t row = blockIdx.x;
  const int shared = rope / N;  // pieces that are sums over heads, taken first: they take longest
  const int pieces = (nope + values) / N;
  for (int i = static_cast<int>(threadIdx.x); i < shared + h * pieces; i += kThreads) {
    if (i < shared) {
      const T* from = p.dk + row * h * (nope + rope) + nope + i * N;
      float sum[N] = {};
#pragma unroll 4
      for (int head = 0; head < h; ++head) {
        Vector<T, N> x;
        x.Load(from + int64_t{head} * (nope + rope));
#pragma unroll
        for (int e = 0; e < N; ++e) {
          sum[e] += x[e];
        }
      }
      Vector<T, N> out;
      out.Set(sum);
      out.Store(p.drope + row * rope + i * N);
      continue;
    }
    const int64_t head = row * h + (i - shared) / pieces;
    const int column = (i - shared) % pieces * N;  // of [nope | values]
    Vector<T, N> x;
    x.Load(column < nope ? p.dk + head * (nope + rope) + column : p.dv + head * values + (column - nope));
    x.Store(p.dkv + head * (nope + values) + column);
  }
}

// run(std::integral_constant<int, N>()): elements of an access. All column counts are multiples of it.
template <typename T, typename Run>
void WithVectors(std::initializer_list<int64_t> columns, std::initializer_list<const void*> tensors, const Run& run) {
  bool wide = true;
  for (const int64_t count : columns) {
    wide = wide && count % device::kVectorElements<T> == 0;
  }
  for (const void* data : tensors) {
    wide = wide && device::IsAligned16(data);
  }
  if (wide) {
    run(std::integral_constant<int, device::kVectorElements<T>>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

[[nodiscard]] LaunchShape OneBlockARow(int64_t rows) {
  return {.grid = dim3(static_cast<unsigned>(rows)), .block = dim3(kThreads), .early = true};
}

[[nodiscard]] Columns ColumnsOf(const TensorView& k, const TensorView& v, const TensorView& rope) {
  const auto shared = static_cast<int>(rope.cols());
  return {.h = static_cast<int>(k.shape[1]),
          .nope = static_cast<int>(k.shape[2]) - shared,
          .rope = shared,
          .values = static_cast<int>(v.shape[2])};
}

}  // namespace

void RotateTails(const RotateTailsArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t half = args.table.shape[1];
    const Rotation<T> p{.x = args.x.As<T>(),
                        .table = args.table.As<float>(),
                        .y = args.y.As<T>(),
                        .layout = args.layout,
                        .first_row = args.first_row,
                        .h = static_cast<int>(args.x.shape[1]),
                        .nope = static_cast<int>(args.x.shape[2] - 2 * half),
                        .half = static_cast<int>(half),
                        .turns = args.inverse ? -1.0F : 1.0F};
    WithVectors<T>({p.nope, p.half}, {p.x, p.y}, [&](auto vector) {
      Launch("RotateTails", stream, OneBlockARow(args.x.rows()), RotateTailsKernel<T, vector()>, p);
    });
  });
}

void LatentHeadsForward(const LatentHeadsForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.k.dtype, [&](auto element) {
    using T = decltype(element);
    const Heads<T> p{.kv = args.kv.As<T>(),
                     .rope = args.rope.As<T>(),
                     .k = args.k.As<T>(),
                     .v = args.v.As<T>(),
                     .columns = ColumnsOf(args.k, args.v, args.rope)};
    const Columns& c = p.columns;
    WithVectors<T>({c.nope, c.rope, c.values}, {p.kv, p.rope, p.k, p.v}, [&](auto vector) {
      Launch("LatentHeadsForward", stream, OneBlockARow(args.k.rows()), LatentHeadsForwardKernel<T, vector()>, p);
    });
  });
}

void LatentHeadsBackward(const LatentHeadsBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.dk.dtype, [&](auto element) {
    using T = decltype(element);
    const HeadGradients<T> p{.dk = args.dk.As<T>(),
                             .dv = args.dv.As<T>(),
                             .dkv = args.dkv.As<T>(),
                             .drope = args.drope.As<T>(),
                             .columns = ColumnsOf(args.dk, args.dv, args.drope)};
    const Columns& c = p.columns;
    WithVectors<T>({c.nope, c.rope, c.values}, {p.dk, p.dv, p.dkv, p.drope}, [&](auto vector) {
      Launch("LatentHeadsBackward", stream, OneBlockARow(args.dk.rows()), LatentHeadsBackwardKernel<T, vector()>, p);
    });
  });
}

}  // namespace ksa::cuda
