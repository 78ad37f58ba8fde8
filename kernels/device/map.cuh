// Map: element-wise kernels over flat ranges, 16 bytes an access where the addresses allow it.
//
// An operation is a small value type with the tensors' pointers and
//
//   template <int N> struct Registers;                                     what was loaded of N elements
//   template <int N> __device__ void Load(int64_t i, Registers<N>&) const;         elements [i, i + N)
//   template <int N> __device__ void Store(int64_t i, const Registers<N>&) const;  computes and writes them
//   __device__ bool Enabled() const;                                       false: nothing is written
//
// Every element is read by the thread that writes it, and before it is written, so outputs may be inputs.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/core/cuda.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/vector.cuh"

namespace ksa::device {

inline constexpr int kMapThreads = 256;

// Thread t of a block takes vectors t, t + 256, ...: all loads first, so that kUnroll of them are on their way.
template <int N, int kUnroll, typename Op>
__global__ void __launch_bounds__(kMapThreads) MapKernel(const Op op, int64_t size) {
  WaitForKernelBefore();
  if (!op.Enabled()) {
    return;
  }
  const int64_t vectors = size / N;
  const int64_t first = int64_t{blockIdx.x} * (kMapThreads * kUnroll) + threadIdx.x;
  typename Op::template Registers<N> registers[kUnroll];
  if (first + (kUnroll - 1) * kMapThreads < vectors) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      op.template Load<N>((first + u * kMapThreads) * N, registers[u]);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      op.template Store<N>((first + u * kMapThreads) * N, registers[u]);
    }
  } else {  // the last block
    for (int64_t v = first; v < vectors; v += kMapThreads) {
      op.template Load<N>(v * N, registers[0]);
      op.template Store<N>(v * N, registers[0]);
    }
  }
  if (N > 1 && blockIdx.x == gridDim.x - 1 && threadIdx.x < size % N) {
    typename Op::template Registers<1> one;
    op.template Load<1>(vectors * N + threadIdx.x, one);
    op.template Store<1>(vectors * N + threadIdx.x, one);
  }
}

// Runs `op` over `size` elements, N at a time when all of `tensors` are 16-byte aligned, else one at a time.
template <int N, int kUnroll, typename Op>
void Map(
    const char* name, const Op& op, int64_t size, std::initializer_list<const void*> tensors, const Stream& stream) {
  bool aligned = true;
  for (const void* data : tensors) {
    aligned = aligned && IsAligned16(data);
  }
  const int64_t per_block = int64_t{kMapThreads} * kUnroll * (aligned ? N : 1);
  // Every block but the last is full; the last one may have nothing but the elements behind the last vector.
  const int64_t blocks = size == 0 ? 0 : size / per_block + 1;
  const cuda::LaunchShape shape = {
      .grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kMapThreads), .early = true};
  if (aligned) {
    cuda::Launch(name, stream, shape, MapKernel<N, kUnroll, Op>, op, size);
  } else {
    cuda::Launch(name, stream, shape, MapKernel<1, kUnroll, Op>, op, size);
  }
}

}  // namespace ksa::device
