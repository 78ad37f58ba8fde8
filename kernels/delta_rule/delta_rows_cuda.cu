// What stands around the gated delta rule, on a GPU. A warp has a row of a head; sums over rows go through partial sums
// of blocks, which are added in order.
#include "kernels/core/cuda.h"
#include "kernels/core/dispatch.h"
#include "kernels/delta_rule/delta_rows_scratch.h"
#include "kernels/delta_rule/delta_rule_backends.h"
#include "kernels/device/column_sums.cuh"
#include "kernels/device/reduce.cuh"

namespace ksa::cuda {
namespace {

constexpr int kWarps = 8;
constexpr float kLengthEps = 1e-6F;

__device__ float Sigmoid(float x) {
  return 1.0F / (1.0F + expf(-x));
}

// log(1 + e^x), without overflow and exact where e^x is small.
__device__ float Softplus(float x) {
  return x > 0.0F ? x + log1pf(expf(-x)) : log1pf(expf(x));
}

// The sum of function(i) over the columns of a row, by its warp.
template <typename Function>
__device__ float RowSum(int e, const Function& function) {
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < e; i += 32) {
    sum += function(i);
  }
  return device::WarpSum(sum);
}

// The row that this warp has, of `rows`; those behind have none.
__device__ int64_t WarpRow() {
  return int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
}

LaunchShape OfRows(int64_t rows) {
  return {.grid = dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)), .block = dim3(32 * kWarps)};
}

template <typename T>
__device__ float LengthOf(const T* x, int e) {
  return rsqrtf(RowSum(e, [&](int i) { return static_cast<float>(x[i]) * static_cast<float>(x[i]); }) + kLengthEps);
}

template <typename T>
__global__ void __launch_bounds__(32 * kWarps) L2ForwardKernel(const T* x, T* y, int64_t rows, int e) {
  const int64_t row = WarpRow();
  if (row >= rows) {
    return;
  }
  x += row * e;
  const float scale = LengthOf(x, e);
  for (int i = static_cast<int>(threadIdx.x) % 32; i < e; i += 32) {
    y[row * e + i] = static_cast<T>(scale * static_cast<float>(x[i]));
  }
}

// A column is read and written by the same lane, so dx may be dy.
template <typename T>
__global__ void __launch_bounds__(32 * kWarps) L2BackwardKernel(const T* x, const T* dy, T* dx, int64_t rows, int e) {
  const int64_t row = WarpRow();
  if (row >= rows) {
    return;
  }
  x += row * e;
  dy += row * e;
  const float scale = LengthOf(x, e);
  const float along = RowSum(e, [&](int i) { return scale * static_cast<float>(x[i]) * static_cast<float>(dy[i]); });
  for (int i = static_cast<int>(threadIdx.x) % 32; i < e; i += 32) {
    const float change = static_cast<float>(dy[i]) - scale * static_cast<float>(x[i]) * along;
    dx[row * e + i] = static_cast<T>(scale * change);
  }
}

template <typename T, typename P>
struct Gates {
  const T* a;
  const T* b;
  const P* a_log;
  const P* dt_bias;
  int64_t rows;
  int heads;
  float most;
};

template <typename T, typename P>
__global__ void __launch_bounds__(256) GatesForwardKernel(const Gates<T, P> p, float* g, float* beta) {
  const int64_t at = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (at >= p.rows * p.heads) {
    return;
  }
  const auto h = static_cast<int>(at % p.heads);
  const float x = static_cast<float>(p.a[at]) + static_cast<float>(p.dt_bias[h]);
  g[at] = -expf(static_cast<float>(p.a_log[h])) * Softplus(x);
  beta[at] = p.most * Sigmoid(static_cast<float>(p.b[at]));
}

struct GateGradients {
  const float* dg;
  const float* dbeta;
  float* a_log;    // [blocks, heads] partial sums
  float* dt_bias;  // [blocks, heads]
};

// Thread (x, y) has head 32·blockIdx.y + x and every 8·blocks-th row.
template <typename T, typename P>
__global__ void __launch_bounds__(256) GatesBackwardKernel(const Gates<T, P> p, const GateGradients in, T* da, T* db) {
  __shared__ float sums[2][8][32];
  const auto h = static_cast<int>(blockIdx.y * 32 + threadIdx.x);
  float of_log = 0.0F;
  float of_bias = 0.0F;
  if (h < p.heads) {
    const float rate = -expf(static_cast<float>(p.a_log[h]));
    const auto bias = static_cast<float>(p.dt_bias[h]);
    for (int64_t row = int64_t{blockIdx.x} * 8 + threadIdx.y; row < p.rows; row += int64_t{gridDim.x} * 8) {
      const int64_t at = row * p.heads + h;
      const float x = static_cast<float>(p.a[at]) + bias;
      const float dg = in.dg[at];
      const float gradient = rate * Sigmoid(x) * dg;
      const float beta = Sigmoid(static_cast<float>(p.b[at]));
      of_log += rate * Softplus(x) * dg;
      of_bias += gradient;
      da[at] = static_cast<T>(gradient);
      db[at] = static_cast<T>(in.dbeta[at] * p.most * beta * (1.0F - beta));
    }
  }
  sums[0][threadIdx.y][threadIdx.x] = of_log;
  sums[1][threadIdx.y][threadIdx.x] = of_bias;
  __syncthreads();
  if (threadIdx.y > 1 || h >= p.heads) {
    return;
  }
  float sum = 0.0F;
#pragma unroll
  for (int y = 0; y < 8; ++y) {
    sum += sums[threadIdx.y][y][threadIdx.x];
  }
  (threadIdx.y == 0 ? in.a_log : in.dt_bias)[int64_t{blockIdx.x} * p.heads + h] = sum;
}

template <typename T>
struct Norm {
  const T* x;
  const T* z;
  const T* weight;
  int64_t rows;
  int e;
  float eps;

  __device__ float InverseRms(int64_t row) const {
    const T* from = x + row * e;
    const float squares = RowSum(e, [&](int i) { return static_cast<float>(from[i]) * static_cast<float>(from[i]); });
    return rsqrtf(squares / static_cast<float>(e) + eps);
  }
};

// A column is read and written by the same lane, so y may be z.
template <typename T>
__global__ void __launch_bounds__(32 * kWarps) NormForwardKernel(const Norm<T> p, T* y) {
  const int64_t row = WarpRow();
  if (row >= p.rows) {
    return;
  }
  const float rstd = p.InverseRms(row);
  for (int i = static_cast<int>(threadIdx.x) % 32; i < p.e; i += 32) {
    const int64_t at = row * p.e + i;
    const auto z = static_cast<float>(p.z[at]);
    y[at] = static_cast<T>(static_cast<float>(p.weight[i]) * static_cast<float>(p.x[at]) * rstd * z * Sigmoid(z));
  }
}

// Rows of a block: every one whose number is the warp's place more than a multiple of all warps. `partials`: null where
// nobody asks for the weight's gradient.
template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    NormBackwardKernel(const Norm<T> p, const T* dy, T* dx, T* dz, float* partials) {
  extern __shared__ float sums[];  // [warps, e]
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float* own = sums + threadIdx.x / 32 * p.e;
  for (int i = lane; i < p.e; i += 32) {
    own[i] = 0.0F;
  }
  for (int64_t row = WarpRow(); row < p.rows; row += int64_t{gridDim.x} * kWarps) {
    const float rstd = p.InverseRms(row);
    const int64_t first = row * p.e;
    // Of what comes out of the norm, before its weight.
    const auto gradient = [&](int i) {
      const auto z = static_cast<float>(p.z[first + i]);
      return static_cast<float>(dy[first + i]) * z * Sigmoid(z);
    };
    const float mean =
        RowSum(p.e,
               [&](int i) {
                 return gradient(i) * static_cast<float>(p.weight[i]) * static_cast<float>(p.x[first + i]) * rstd;
               }) /
        static_cast<float>(p.e);
    for (int i = lane; i < p.e; i += 32) {
      const auto weight = static_cast<float>(p.weight[i]);
      const auto z = static_cast<float>(p.z[first + i]);
      const float normed = static_cast<float>(p.x[first + i]) * rstd;
      const float g = gradient(i);
      const float s = Sigmoid(z);
      const float slope = s * (1.0F + z * (1.0F - s));  // of SiLU
      const float dnormed = static_cast<float>(dy[first + i]) * weight;
      own[i] += g * normed;
      dz[first + i] = static_cast<T>(dnormed * normed * slope);
      dx[first + i] = static_cast<T>(rstd * (g * weight - normed * mean));
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); partials != nullptr && i < p.e; i += 32 * kWarps) {
    float sum = 0.0F;
    for (int warp = 0; warp < kWarps; ++warp) {
      sum += sums[warp * p.e + i];
    }
    partials[int64_t{blockIdx.x} * p.e + i] = sum;
  }
}

template <typename T, typename P, typename Args>
Gates<T, P> GatesOf(const Args& args) {
  return {args.a.template As<T>(),
          args.b.template As<T>(),
          args.a_log.template As<P>(),
          args.dt_bias.template As<P>(),
          args.a.rows(),
          static_cast<int>(args.a.cols()),
          static_cast<float>(args.most)};
}

// Calls run(element of the rows, element of the parameters).
template <typename Args, typename Run>
void WithGateTypes(const Args& args, const Run& run) {
  DispatchGpu(args.a.dtype,
              [&](auto element) { DispatchGpu(args.a_log.dtype, [&](auto parameter) { run(element, parameter); }); });
}

template <typename T, typename Args>
Norm<T> NormOf(const Args& args) {
  return {args.x.template As<T>(),
          args.z.template As<T>(),
          args.weight.template As<T>(),
          args.x.size() / args.x.shape[2],
          static_cast<int>(args.x.shape[2]),
          static_cast<float>(args.eps)};
}

}  // namespace

void L2NormForward(const L2NormForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t rows = args.x.size() / args.x.shape[2];
    Launch("L2NormForward",
           stream,
           OfRows(rows),
           L2ForwardKernel<T>,
           args.x.As<T>(),
           args.y.As<T>(),
           rows,
           static_cast<int>(args.x.shape[2]));
  });
}

void L2NormBackward(const L2NormBackwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t rows = args.x.size() / args.x.shape[2];
    Launch("L2NormBackward",
           stream,
           OfRows(rows),
           L2BackwardKernel<T>,
           args.x.As<T>(),
           args.dy.As<T>(),
           args.dx.As<T>(),
           rows,
           static_cast<int>(args.x.shape[2]));
  });
}

void DeltaGatesForward(const DeltaGatesForwardArgs& args, const Stream& stream) {
  WithGateTypes(args, [&](auto element, auto parameter) {
    using T = decltype(element);
    using P = decltype(parameter);
    const LaunchShape shape = {.grid = dim3(static_cast<unsigned>((args.a.size() + 255) / 256)), .block = dim3(256)};
    Launch("DeltaGatesForward",
           stream,
           shape,
           GatesForwardKernel<T, P>,
           GatesOf<T, P>(args),
           args.g.As<float>(),
           args.beta.As<float>());
  });
}

void DeltaGatesBackward(const DeltaGatesBackwardArgs& args, const Stream& stream) {
  constexpr const char* kOp = "DeltaGatesBackward";
  const Tensor partials = DeltaGatesPartials(args);
  WithGateTypes(args, [&](auto element, auto parameter) {
    using T = decltype(element);
    using P = decltype(parameter);
    const int64_t heads = args.a.cols();
    auto* a_log = partials.As<float>();
    float* dt_bias = a_log + kDeltaSumBlocks * heads;
    const LaunchShape shape = {.grid = dim3(kDeltaSumBlocks, static_cast<unsigned>((heads + 31) / 32)),
                               .block = dim3(32, 8)};
    Launch(kOp,
           stream,
           shape,
           GatesBackwardKernel<T, P>,
           GatesOf<T, P>(args),
           GateGradients{args.dg.As<float>(), args.dbeta.As<float>(), a_log, dt_bias},
           args.da.As<T>(),
           args.db.As<T>());
    device::ColumnSums(kOp,
                       {a_log, kDeltaSumBlocks, args.da_log.As<float>(), args.accumulate_a_log},
                       {dt_bias, kDeltaSumBlocks, args.ddt_bias.As<float>(), args.accumulate_dt_bias},
                       heads,
                       stream);
  });
}

void GatedNormForward(const GatedNormForwardArgs& args, const Stream& stream) {
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const Norm<T> norm = NormOf<T>(args);
    Launch("GatedNormForward", stream, OfRows(norm.rows), NormForwardKernel<T>, norm, args.y.As<T>());
  });
}

void GatedNormBackward(const GatedNormBackwardArgs& args, const Stream& stream) {
  constexpr const char* kOp = "GatedNormBackward";
  const Tensor partials = GatedNormPartials(args);
  DispatchGpu(args.x.dtype, [&](auto element) {
    using T = decltype(element);
    const Norm<T> norm = NormOf<T>(args);
    const LaunchShape shape = {.grid = dim3(kDeltaSumBlocks),
                               .block = dim3(32 * kWarps),
                               .shared_bytes = sizeof(float) * kWarps * static_cast<size_t>(norm.e)};
    Launch(kOp,
           stream,
           shape,
           NormBackwardKernel<T>,
           norm,
           args.dy.As<T>(),
           args.dx.As<T>(),
           args.dz.As<T>(),
           partials.empty() ? nullptr : partials.As<float>());
    device::ColumnSums(
        kOp, {partials.As<float>(), kDeltaSumBlocks, args.dweight.As<float>(), args.accumulate}, {}, norm.e, stream);
  });
}

}  // namespace ksa::cuda
