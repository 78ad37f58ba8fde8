// The second stage of sums over rows: adds up partial sums that blocks left in scratch, in a fixed order.
#pragma once

#include <cstdint>

#include "kernels/core/cuda.h"

namespace ksa::device {

// Threads of a block: 32 neighbouring columns times kColumnSlices slices of the rows.
inline constexpr int kColumnSlices = 32;

// out[c] = (accumulate ? out[c] : 0) + sum over r of partials[r, c], partials [rows, cols]. Slice s adds rows s, s +
// 16,
// ... in ascending order, then the slices are added in ascending order.
static __global__ void __launch_bounds__(32 * kColumnSlices)
    ColumnSumsKernel(const float* partials, int64_t rows, int64_t cols, float* out, bool accumulate) {
  __shared__ float shared[kColumnSlices][32];
  const int lane = static_cast<int>(threadIdx.x);
  const int slice = static_cast<int>(threadIdx.y);
  const int64_t c = int64_t{blockIdx.x} * 32 + lane;
  float sum = 0.0F;
  if (c < cols) {
#pragma unroll 8
    for (int64_t r = slice; r < rows; r += kColumnSlices) {
      sum += partials[r * cols + c];
    }
  }
  shared[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || c >= cols) {
    return;
  }
  float total = accumulate ? out[c] : 0.0F;
  for (int s = 0; s < kColumnSlices; ++s) {
    total += shared[s][lane];
  }
  out[c] = total;
}

inline void ColumnSums(const char* name,
                       const float* partials,
                       int64_t rows,
                       int64_t cols,
                       float* out,
                       bool accumulate,
                       const Stream& stream) {
  const cuda::LaunchShape shape = {dim3(static_cast<unsigned>((cols + 31) / 32)), dim3(32, kColumnSlices)};
  cuda::Launch(name, stream, shape, ColumnSumsKernel, partials, rows, cols, out, accumulate);
}

}  // namespace ksa::device
