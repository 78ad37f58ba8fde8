#include <cstdint>

#include "kernels/copy/copy_backends.h"
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/vector.cuh"

namespace ksa::cuda {
namespace {

using device::Vector;

constexpr int kThreads = 256;
constexpr int kMostParts = 48;
constexpr int kUnroll = 4;  // vectors of a thread, whose loads are under way together

// Elements [begin, end) of y get `data`.
template <typename T>
struct Part {
  const T* data;
  int64_t begin;
  int64_t end;
};

template <typename T>
struct Parts {
  Part<T> parts[kMostParts];
  int count;
};

// Boundaries of parts lie between vectors.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) SumRowPartsKernel(const Parts<T> p, T* y, int64_t size) {
  const int64_t first = (int64_t{blockIdx.x} * (kThreads * kUnroll) + threadIdx.x) * N;
  constexpr int64_t kStep = int64_t{kThreads} * N;
  float sums[kUnroll][N] = {};
  for (int j = 0; j < p.count; ++j) {
    const Part<T> part = p.parts[j];
    Vector<T, N> x[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t i = first + u * kStep;
      if (i >= part.begin && i < part.end) {
        x[u].Load(part.data + (i - part.begin));
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t i = first + u * kStep;
      if (i >= part.begin && i < part.end) {
#pragma unroll
        for (int e = 0; e < N; ++e) {
          sums[u][e] += x[u][e];
        }
      }
    }
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int64_t i = first + u * kStep;
    if (i < size) {
      Vector<T, N> out;
      out.Set(sums[u]);
      out.Store(y + i);
    }
  }
}

template <typename T, int N>
void Run(const Parts<T>& parts, const TensorView& y, const Stream& stream) {
  constexpr int64_t kPerBlock = int64_t{kThreads} * kUnroll * N;
  const int64_t blocks = (y.size() + kPerBlock - 1) / kPerBlock;
  Launch("SumRowParts",
         stream,
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)},
         SumRowPartsKernel<T, N>,
         parts,
         y.As<T>(),
         y.size());
}

}  // namespace

void SumRowParts(std::span<const RowPart> parts, const TensorView& y, const Stream& stream) {
  DispatchGpu(y.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kElements = device::kVectorElements<T>;
    Parts<T> p = {};
    bool wide = y.cols() % kElements == 0 && device::IsAligned16(y.data);
    for (const RowPart& part : parts) {
      const int64_t begin = part.first * y.cols();
      p.parts[p.count++] = {part.rows.As<T>(), begin, begin + part.rows.size()};
      wide = wide && device::IsAligned16(part.rows.data);
    }
    if (wide) {
      Run<T, kElements>(p, y, stream);
    } else {
      Run<T, 1>(p, y, stream);
    }
  });
}

}  // namespace ksa::cuda
