#include <cmath>

#include "kernels/core/parallel.h"
#include "kernels/optimizer/optimizer_backends.h"

namespace ksa::cpu {
namespace {

// The scalars of one update, computed in double.
template <typename A>
struct Factors {
  Factors(const AdamWArgs& args, double scale)
      : decay(static_cast<A>(1.0 - args.lr * args.weight_decay)),
        beta1(static_cast<A>(args.beta1)),
        rest1(static_cast<A>(1.0 - args.beta1)),
        beta2(static_cast<A>(args.beta2)),
        rest2(static_cast<A>(1.0 - args.beta2)),
        step_size(static_cast<A>(args.lr / (1.0 - std::pow(args.beta1, static_cast<double>(args.step))))),
        correction(static_cast<A>(std::sqrt(1.0 - std::pow(args.beta2, static_cast<double>(args.step))))),
        eps(static_cast<A>(args.eps)),
        grad_scale(static_cast<A>(scale)) {}

  A decay;
  A beta1;
  A rest1;
  A beta2;
  A rest2;
  A step_size;
  A correction;
  A eps;
  A grad_scale;
};

}  // namespace

template <typename A>
void AdamW(const AdamWArgs& args, const Stream& stream) {
  const double scale = args.grad_scale.empty() ? 1.0 : *args.grad_scale.As<double>();
  if (!std::isfinite(scale)) {
    return;
  }
  const Factors<A> f(args, scale);
  A* weight = args.weight.As<A>();
  const A* grad = args.grad.As<A>();
  A* exp_avg = args.exp_avg.As<A>();
  A* exp_avg_sq = args.exp_avg_sq.As<A>();
  BFloat16* compute = args.compute.As<BFloat16>();
  ParallelRanges(stream, args.weight.size(), [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const A g = grad[i] * f.grad_scale;
      const A m = f.beta1 * exp_avg[i] + f.rest1 * g;
      const A v = f.beta2 * exp_avg_sq[i] + f.rest2 * g * g;
      const A denominator = std::sqrt(v) / f.correction + f.eps;
      exp_avg[i] = m;
      exp_avg_sq[i] = v;
      weight[i] = weight[i] * f.decay - f.step_size * (m / denominator);
    }
    if (compute != nullptr) {
      for (int64_t i = begin; i < end; ++i) {
        compute[i] = BFloat16(static_cast<float>(weight[i]));
      }
    }
  });
}

template void AdamW<double>(const AdamWArgs&, const Stream&);
template void AdamW<float>(const AdamWArgs&, const Stream&);

}  // namespace ksa::cpu
