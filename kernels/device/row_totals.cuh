// One number of many rows, in an order that depends on their count alone: a sum, or the largest.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/core/cuda.h"

namespace ksa::device {

constexpr int kTotalThreads = 1024;

// One block: thread t adds rows t, t + 1024, ..., and the threads' sums are added pairwise.
static __global__ void __launch_bounds__(kTotalThreads) SumRowsKernel(const float* rows, int64_t n, double* out) {
  __shared__ double sums[kTotalThreads];
  double sum = 0.0;
  for (int64_t r = threadIdx.x; r < n; r += kTotalThreads) {
    sum += static_cast<double>(rows[r]);
  }
  sums[threadIdx.x] = sum;
  for (unsigned half = kTotalThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      sums[threadIdx.x] += sums[threadIdx.x + half];
    }
  }
  if (threadIdx.x == 0) {
    *out += sums[0];
  }
}

// One block: raises out to the largest of n rows; NaN where one is.
static __global__ void __launch_bounds__(kTotalThreads) LargestKernel(const float* rows, int64_t n, double* out) {
  __shared__ float of_threads[kTotalThreads];
  float largest = -INFINITY;
  bool is_nan = false;
  for (int64_t r = threadIdx.x; r < n; r += kTotalThreads) {
    is_nan = is_nan || isnan(rows[r]);
    largest = fmaxf(largest, rows[r]);
  }
  const bool any_nan = __syncthreads_or(is_nan ? 1 : 0) != 0;
  of_threads[threadIdx.x] = largest;
  for (unsigned half = kTotalThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      of_threads[threadIdx.x] = fmaxf(of_threads[threadIdx.x], of_threads[threadIdx.x + half]);
    }
  }
  if (threadIdx.x == 0) {
    *out = any_nan ? static_cast<double>(NAN) : fmax(*out, static_cast<double>(of_threads[0]));
  }
}

// Adds the sum of rows [n] to `out`.
inline void AddSumOfRows(const char* op, const float* rows, int64_t n, double* out, const Stream& stream) {
  cuda::Launch(op, stream, {.grid = dim3(1), .block = dim3(kTotalThreads)}, SumRowsKernel, rows, n, out);
}

// Raises `out` to the largest of rows [n].
inline void RaiseToLargest(const char* op, const float* rows, int64_t n, double* out, const Stream& stream) {
  cuda::Launch(op, stream, {.grid = dim3(1), .block = dim3(kTotalThreads)}, LargestKernel, rows, n, out);
}

}  // namespace ksa::device
