// The second stage of sums over rows: adds up partial sums that blocks left in scratch, in a fixed order.
#pragma once

#include <cstdint>

#include "kernels/core/cuda.h"
#include "kernels/device/launch.cuh"

namespace ksa::device {

// Threads of a block: 32 neighbouring columns times kColumnSlices slices of the rows.
inline constexpr int kColumnSlices = 32;

// out[c] = (accumulate ? out[c] : 0) + sum over r of partials[r, c], partials [rows, cols]. Without `out` there is
// nothing to do. Slice s adds rows s, s + 32, ... in ascending order, then the slices are added in ascending order.
struct ColumnSum {
  const float* partials = nullptr;
  int64_t rows = 0;
  float* out = nullptr;
  bool accumulate = false;
};

static __global__ void __launch_bounds__(32 * kColumnSlices)
    ColumnSumsKernel(const ColumnSum first, const ColumnSum second, int64_t cols) {
  WaitForKernelBefore();
  __shared__ float shared[kColumnSlices][32];
  const ColumnSum s = blockIdx.y == 0 ? first : second;
  const int lane = static_cast<int>(threadIdx.x);
  const int slice = static_cast<int>(threadIdx.y);
  const int64_t c = int64_t{blockIdx.x} * 32 + lane;
  if (s.out == nullptr) {
    return;
  }
  float sum = 0.0F;
  if (c < cols) {
#pragma unroll 8
    for (int64_t r = slice; r < s.rows; r += kColumnSlices) {
      sum += s.partials[r * cols + c];
    }
  }
  shared[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || c >= cols) {
    return;
  }
  float total = s.accumulate ? s.out[c] : 0.0F;
  for (int i = 0; i < kColumnSlices; ++i) {
    total += shared[i][lane];
  }
  s.out[c] = total;
}

// Both sums, of as many columns, in one launch.
inline void ColumnSums(
    const char* name, const ColumnSum& first, const ColumnSum& second, int64_t cols, const Stream& stream) {
  const unsigned sums = second.out != nullptr ? 2 : (first.out != nullptr ? 1 : 0);
  const cuda::LaunchShape shape = {
      .grid = dim3(static_cast<unsigned>((cols + 31) / 32), sums), .block = dim3(32, kColumnSlices), .early = true};
  cuda::Launch(name, stream, shape, ColumnSumsKernel, first, second, cols);
}

}  // namespace ksa::device
