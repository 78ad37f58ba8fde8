#include <cmath>

#include "kernels/core/cuda.h"
#include "kernels/device/map.cuh"
#include "kernels/device/vector.cuh"
#include "kernels/optimizer/optimizer_backends.h"

namespace ksa::cuda {
namespace {

using device::Vector;

// The scalars of one update, computed in double.
struct Factors {
  float decay;
  float beta1;
  float rest1;
  float beta2;
  float rest2;
  float step_size;
  float correction;
  float eps;
};

Factors FactorsOf(const AdamWArgs& args) {
  const auto step = static_cast<double>(args.step);
  return {.decay = static_cast<float>(1.0 - args.lr * args.weight_decay),
          .beta1 = static_cast<float>(args.beta1),
          .rest1 = static_cast<float>(1.0 - args.beta1),
          .beta2 = static_cast<float>(args.beta2),
          .rest2 = static_cast<float>(1.0 - args.beta2),
          .step_size = static_cast<float>(args.lr / (1.0 - std::pow(args.beta1, step))),
          .correction = static_cast<float>(std::sqrt(1.0 - std::pow(args.beta2, step))),
          .eps = static_cast<float>(args.eps)};
}

// 16 bytes read and 12 (14 with the bf16 copy) written an element; nothing of it is read again soon.
template <bool kCompute>
struct AdamWOp {
  Factors f;
  const double* grad_scale;  // or null
  const float* grad;
  float* weight;
  float* exp_avg;
  float* exp_avg_sq;
  BFloat16* compute;

  template <int N>
  struct Registers {
    Vector<float, N> grad;
    Vector<float, N> weight;
    Vector<float, N> exp_avg;
    Vector<float, N> exp_avg_sq;
  };

  __device__ bool Enabled() const { return grad_scale == nullptr || isfinite(*grad_scale); }

  template <int N>
  __device__ void Load(int64_t i, Registers<N>& r) const {
    r.grad.LoadStreaming(grad + i);
    r.weight.LoadStreaming(weight + i);
    r.exp_avg.LoadStreaming(exp_avg + i);
    r.exp_avg_sq.LoadStreaming(exp_avg_sq + i);
  }

  template <int N>
  __device__ void Store(int64_t i, const Registers<N>& r) const {
    const float scale = grad_scale == nullptr ? 1.0F : static_cast<float>(*grad_scale);
    float m[N];
    float v[N];
    float w[N];
#pragma unroll
    for (int e = 0; e < N; ++e) {
      // Roundings are spelt out: how many elements a thread has must not change them.
      const float g = __fmul_rn(r.grad[e], scale);
      m[e] = __fmaf_rn(f.rest1, g, __fmul_rn(f.beta1, r.exp_avg[e]));
      v[e] = __fmaf_rn(__fmul_rn(f.rest2, g), g, __fmul_rn(f.beta2, r.exp_avg_sq[e]));
      const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v[e]), f.correction), f.eps);
      w[e] = __fmaf_rn(-f.step_size, __fdiv_rn(m[e], denominator), __fmul_rn(r.weight[e], f.decay));
    }
    Vector<float, N> out;
    out.Set(m);
    out.StoreStreaming(exp_avg + i);
    out.Set(v);
    out.StoreStreaming(exp_avg_sq + i);
    out.Set(w);
    out.StoreStreaming(weight + i);
    if constexpr (kCompute) {
      Vector<BFloat16, N> rounded;
      rounded.Set(w);
      rounded.StoreStreaming(compute + i);
    }
  }
};

template <bool kCompute>
void Run(const AdamWArgs& args, const Stream& stream) {
  const AdamWOp<kCompute> op{.f = FactorsOf(args),
                             .grad_scale = args.grad_scale.As<double>(),
                             .grad = args.grad.As<float>(),
                             .weight = args.weight.As<float>(),
                             .exp_avg = args.exp_avg.As<float>(),
                             .exp_avg_sq = args.exp_avg_sq.As<float>(),
                             .compute = args.compute.As<BFloat16>()};
  device::Map<4, 1>(
      "AdamW", op, args.weight.size(), {op.grad, op.weight, op.exp_avg, op.exp_avg_sq, op.compute}, stream);
}

}  // namespace

void AdamW(const AdamWArgs& args, const Stream& stream) {
  if (args.weight.dtype != DType::kF32) {
    Fail(ExitCode::kInternal, "AdamW: on a GPU weights are fp32, these are {}", NameOf(args.weight.dtype));
  }
  if (args.compute.empty()) {
    Run<false>(args, stream);
  } else {
    Run<true>(args, stream);
  }
}

}  // namespace ksa::cuda
