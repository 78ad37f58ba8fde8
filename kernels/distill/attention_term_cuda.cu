#include <cmath>

#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/device/reduce.cuh"
#include "kernels/device/row_totals.cuh"
#include "kernels/distill/attention_term_backends.h"

namespace ksa::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
struct TermArgs {
  const T* student;
  const T* teacher;
  T* dstudent;  // or null
  float* sums;  // [n]
  int64_t d;
  float scale;
  bool normalize;
};

// The sum over a block's threads, for all of them. `shared` may be used again after another barrier.
__device__ float BlockSum(float x, float* shared) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffU, x, offset);
  }
  if (threadIdx.x % 32 == 0) {
    shared[threadIdx.x / 32] = x;
  }
  __syncthreads();
  float sum = shared[threadIdx.x % (kThreads / 32)];
#pragma unroll
  for (int offset = kThreads / 64; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffU, sum, offset);
  }
  return sum;
}

// A block a row.
template <typename T>
__global__ void __launch_bounds__(kThreads) AttentionTermKernel(const TermArgs<T> p) {
  __shared__ float shared[4][kThreads / 32];
  const int64_t row = blockIdx.x;
  const T* student = p.student + row * p.d;
  const T* teacher = p.teacher + row * p.d;
  constexpr auto kMost = static_cast<float>(kAttentionTermMost);
  float root = 0.0F;
  float a = 1.0F;
  float b = 1.0F;
  if (p.normalize) {
    float s2 = 0.0F;
    float t2 = 0.0F;
    for (int64_t i = threadIdx.x; i < p.d; i += kThreads) {
      const auto s = static_cast<float>(student[i]);
      const auto t = static_cast<float>(teacher[i]);
      s2 += s * s;
      t2 += t * t;
    }
    root = sqrtf(BlockSum(s2, shared[0]) / static_cast<float>(p.d));
    a = 1.0F / (root + 1e-6F);
    b = 1.0F / (sqrtf(BlockSum(t2, shared[1]) / static_cast<float>(p.d)) + 1e-6F);
  }
  float sum = 0.0F;
  float product = 0.0F;  // of slopes and the student's elements
  for (int64_t i = threadIdx.x; i < p.d; i += kThreads) {
    const auto s = static_cast<float>(student[i]);
    const float gap = a * s - b * static_cast<float>(teacher[i]);
    const float square = gap * gap;
    sum += square < kMost || isnan(square) ? square : kMost;
    product += square < kMost ? 2.0F * gap * s : 0.0F;
  }
  sum = BlockSum(sum, shared[2]);
  if (threadIdx.x == 0) {
    p.sums[row] = sum;
  }
  if (p.dstudent == nullptr) {
    return;
  }
  float back = 0.0F;
  if (p.normalize) {
    product = BlockSum(product, shared[3]);
    back = root > 0.0F ? product * a * a / (static_cast<float>(p.d) * root) : 0.0F;
  }
  T* gradient = p.dstudent + row * p.d;
  for (int64_t i = threadIdx.x; i < p.d; i += kThreads) {
    const auto s = static_cast<float>(student[i]);
    const float gap = a * s - b * static_cast<float>(teacher[i]);
    const float slope = gap * gap < kMost ? 2.0F * gap : 0.0F;
    gradient[i] = static_cast<T>(p.scale * (a * slope - back * s));
  }
}

}  // namespace

void AttentionTerm(const AttentionTermArgs& args, Allocator& scratch, const Stream& stream) {
  const int64_t n = args.student.rows();
  const Tensor sums = TakeAttentionTermScratch(args, scratch);
  DispatchGpu(args.student.dtype, [&](auto element) {
    using T = decltype(element);
    const TermArgs<T> p{.student = args.student.As<T>(),
                        .teacher = args.teacher.As<T>(),
                        .dstudent = args.dstudent.As<T>(),
                        .sums = sums.As<float>(),
                        .d = args.student.cols(),
                        .scale = static_cast<float>(args.scale),
                        .normalize = args.normalize};
    Launch("AttentionTerm",
           stream,
           {.grid = dim3(static_cast<unsigned>(n)), .block = dim3(kThreads)},
           AttentionTermKernel<T>,
           p);
  });
  device::AddSumOfRows("AttentionTerm", sums.As<float>(), n, args.sum.As<double>(), stream);
}

}  // namespace ksa::cuda
