#include <cmath>

#include "kernels/core/cuda.h"
#include "kernels/loss/target_margin_cuda.h"

namespace ksa::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kStatistics = 3;  // largest logit, sum of exponentials, target's logit

// NaN wins: a row that holds one has no likeliest id.
__device__ __forceinline__ float Larger(float a, float b) {
  return isnan(a) || a > b ? a : b;
}

// A block a row.
__global__ void __launch_bounds__(kThreads)
    RowMarginKernel(const float* logits, const int32_t* targets, int64_t v, float* margins) {
  __shared__ float of_warps[kWarps];
  const int64_t row = blockIdx.x;
  const float* of_row = logits + row * v;
  float largest = -INFINITY;
  for (int64_t i = threadIdx.x; i < v; i += kThreads) {
    largest = Larger(of_row[i], largest);
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    largest = Larger(__shfl_xor_sync(0xffffffffU, largest, offset), largest);
  }
  if (threadIdx.x % 32 == 0) {
    of_warps[threadIdx.x / 32] = largest;
  }
  __syncthreads();
  if (threadIdx.x != 0) {
    return;
  }
  for (int i = 1; i < kWarps; ++i) {
    largest = Larger(of_warps[i], largest);
  }
  const int64_t target = targets[row];
  margins[row] = target < 0 ? 0.0F : target < v ? of_row[target] - largest : NAN;
}

// A thread a row: what the parts have told each other.
__global__ void __launch_bounds__(kThreads)
    PartMarginKernel(const float* stats, const int32_t* targets, int64_t rows, int64_t parts, float* margins) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) {
    return;
  }
  float largest = -INFINITY;
  float target = 0.0F;
  for (int64_t part = 0; part < parts; ++part) {
    const float* of_part = stats + (part * rows + row) * kStatistics;
    largest = Larger(of_part[0], largest);
    target += of_part[2];
  }
  margins[row] = targets[row] < 0 ? 0.0F : target - largest;
}

}  // namespace

void TargetMargin(const TargetMarginArgs& args, const Stream& stream) {
  if (!args.stats.empty()) {
    const int64_t parts = args.stats.shape[0];
    const int64_t rows = args.stats.shape[1];
    Launch("TargetMargin",
           stream,
           {.grid = dim3(static_cast<unsigned>((rows + kThreads - 1) / kThreads)), .block = dim3(kThreads)},
           PartMarginKernel,
           args.stats.As<float>(),
           args.targets,
           rows,
           parts,
           args.margins);
    return;
  }
  Launch("TargetMargin",
         stream,
         {.grid = dim3(static_cast<unsigned>(args.logits.rows())), .block = dim3(kThreads)},
         RowMarginKernel,
         args.logits.As<float>(),
         args.targets,
         args.logits.cols(),
         args.margins);
}

}  // namespace ksa::cuda
