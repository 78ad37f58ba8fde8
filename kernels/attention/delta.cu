// delta = rowsum(dout · out), which both kernels of the backward read.
#include <cstdint>

#include "kernels/attention/cuda_paths.h"
#include "kernels/attention/vector.cuh"
#include "kernels/core/cuda.h"

namespace ksa::cuda_attention {
namespace {

constexpr int kDeltas = 4;  // pieces of rows of a thread: enough loads under way to fill the memory's pipe

// delta of one (row, head) a run of kDim / 8 lanes, for `count` of them.
template <int kDim>
__global__ void __launch_bounds__(256)
    OutputDeltaKernel(const BFloat16* dout, const BFloat16* out, float* delta, int64_t count) {
  constexpr int kLanes = kDim / 8;
  const int64_t first = int64_t{blockIdx.x} * 256 * kDeltas + threadIdx.x;
  const int64_t last = count * kLanes - 1;
  uint4 x[kDeltas];
  uint4 y[kDeltas];
#pragma unroll
  for (int i = 0; i < kDeltas; ++i) {
    const int64_t piece = min(first + i * 256, last);
    x[i] = LoadVector(dout + piece * 8);
    y[i] = LoadVector(out + piece * 8);
  }
#pragma unroll
  for (int i = 0; i < kDeltas; ++i) {
    const int64_t piece = first + i * 256;
    const float sum = Dot<kLanes>(Vector(x[i]), Vector(y[i]));
    if (piece <= last && threadIdx.x % kLanes == 0) {
      delta[piece / kLanes] = sum;
    }
  }
}

// The same for any head dim and type: a warp each.
template <typename T>
__global__ void __launch_bounds__(256)
    PlainOutputDeltaKernel(const T* dout, const T* out, float* delta, int64_t count, int dim) {
  const int64_t at = int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (at >= count) {
    return;
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0.0F;
  for (int d = lane; d < dim; d += 32) {
    sum = fmaf(static_cast<float>(dout[at * dim + d]), static_cast<float>(out[at * dim + d]), sum);
  }
  sum = SumOver<32>(sum);
  if (lane == 0) {
    delta[at] = sum;
  }
}

cuda::LaunchShape Blocks(int64_t items, int64_t per_block, dim3 block) {
  return {dim3(static_cast<unsigned>((items + per_block - 1) / per_block)), block};
}

}  // namespace

void OutputDelta(const AttentionBackwardArgs& args, const TensorView& delta, const Stream& stream) {
  const int64_t count = delta.size();
  const auto dim = static_cast<int>(args.dout.shape[2]);
  if (IsRowOfVectors(args.dout)) {
    cuda::Launch("OutputDeltaKernel",
                 stream,
                 Blocks(count * dim / 8, 256 * kDeltas, dim3(256)),
                 dim == 64 ? OutputDeltaKernel<64> : OutputDeltaKernel<128>,
                 args.dout.As<BFloat16>(),
                 args.out.As<BFloat16>(),
                 delta.As<float>(),
                 count);
    return;
  }
  const auto plain = [&](auto element) {
    using T = decltype(element);
    cuda::Launch("PlainOutputDeltaKernel",
                 stream,
                 Blocks(count, 8, dim3(256)),
                 PlainOutputDeltaKernel<T>,
                 args.dout.As<T>(),
                 args.out.As<T>(),
                 delta.As<float>(),
                 count,
                 dim);
  };
  if (args.q.dtype == DType::kF32) {
    plain(float{});
  } else {
    plain(BFloat16{});
  }
}

}  // namespace ksa::cuda_attention
