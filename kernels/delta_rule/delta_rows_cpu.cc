// What stands around the gated delta rule: the gates, the length of queries and keys, and the gated norm of its output.
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/core/dispatch.h"
#include "kernels/core/dtype.h"
#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/delta_rule/delta_rule_backends.h"

namespace ksa::cpu {
namespace {

constexpr double kLengthEps = 1e-6;

template <typename A>
A Sigmoid(A x) {
  return A{1} / (A{1} + std::exp(-x));
}

// log(1 + e^x), without overflow and exact where e^x is small.
template <typename A>
A Softplus(A x) {
  return x > A{0} ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

template <typename T>
Accumulator<T> InverseLength(const T* x, int64_t e) {
  using A = Accumulator<T>;
  const A squares = SumOf<A>(e, [&](int64_t i) { return static_cast<A>(x[i]) * static_cast<A>(x[i]); });
  return A{1} / std::sqrt(squares + static_cast<A>(kLengthEps));
}

template <typename T>
Accumulator<T> InverseRms(const T* x, int64_t e, double eps) {
  using A = Accumulator<T>;
  const A squares = SumOf<A>(e, [&](int64_t i) { return static_cast<A>(x[i]) * static_cast<A>(x[i]); });
  return A{1} / std::sqrt(squares / static_cast<A>(e) + static_cast<A>(eps));
}

// The parameters of the gates, which may be kept in a finer type than the activations.
template <typename A>
std::vector<A> Values(const TensorView& x) {
  std::vector<A> values(static_cast<size_t>(x.size()));
  DispatchFloating(x.dtype, [&](auto element) {
    using T = decltype(element);
    for (int64_t i = 0; i < x.size(); ++i) {
      values[static_cast<size_t>(i)] = static_cast<A>(static_cast<Accumulator<T>>(x.As<T>()[i]));
    }
  });
  return values;
}

}  // namespace

template <typename T>
void L2NormForward(const L2NormForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t e = args.x.shape[2];
  ParallelFor(stream, args.x.size() / e, e, [&](int64_t row) {
    const T* x = args.x.As<T>() + row * e;
    T* y = args.y.As<T>() + row * e;
    const A scale = InverseLength(x, e);
#pragma omp simd
    for (int64_t i = 0; i < e; ++i) {
      y[i] = static_cast<T>(scale * static_cast<A>(x[i]));
    }
  });
}

template <typename T>
void L2NormBackward(const L2NormBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t e = args.x.shape[2];
  ParallelFor(stream, args.x.size() / e, e, [&](int64_t row) {
    const T* x = args.x.As<T>() + row * e;
    const T* dy = args.dy.As<T>() + row * e;
    T* dx = args.dx.As<T>() + row * e;
    const A scale = InverseLength(x, e);
    const A along = SumOf<A>(e, [&](int64_t i) { return scale * static_cast<A>(x[i]) * static_cast<A>(dy[i]); });
#pragma omp simd
    for (int64_t i = 0; i < e; ++i) {
      dx[i] = static_cast<T>(scale * (static_cast<A>(dy[i]) - scale * static_cast<A>(x[i]) * along));
    }
  });
}

template <typename T>
void DeltaGatesForward(const DeltaGatesForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t heads = args.a.cols();
  const std::vector<A> a_log = Values<A>(args.a_log);
  const std::vector<A> dt_bias = Values<A>(args.dt_bias);
  ParallelFor(stream, args.a.rows(), heads, [&](int64_t row) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = row * heads + h;
      const auto head = static_cast<size_t>(h);
      const A x = static_cast<A>(args.a.As<T>()[at]) + dt_bias[head];
      args.g.As<A>()[at] = -std::exp(a_log[head]) * Softplus(x);
      args.beta.As<A>()[at] = static_cast<A>(args.most) * Sigmoid(static_cast<A>(args.b.As<T>()[at]));
    }
  });
}

template <typename T>
void DeltaGatesBackward(const DeltaGatesBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t heads = args.a.cols();
  const std::vector<A> a_log = Values<A>(args.a_log);
  const std::vector<A> dt_bias = Values<A>(args.dt_bias);
  // Sums of a row: da_log of each head, then ddt_bias.
  std::vector<A> sums(static_cast<size_t>(2 * heads));
  const auto add_row = [&](int64_t row, A* sum) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = row * heads + h;
      const auto head = static_cast<size_t>(h);
      const A x = static_cast<A>(args.a.As<T>()[at]) + dt_bias[head];
      const A rate = -std::exp(a_log[head]);
      const A dg = args.dg.As<A>()[at];
      const A da = rate * Sigmoid(x) * dg;
      const A beta = Sigmoid(static_cast<A>(args.b.As<T>()[at]));
      sum[h] += rate * Softplus(x) * dg;
      sum[heads + h] += da;
      args.da.As<T>()[at] = static_cast<T>(da);
      args.db.As<T>()[at] = static_cast<T>(args.dbeta.As<A>()[at] * static_cast<A>(args.most) * beta * (A{1} - beta));
    }
  };
  RowSums<A, decltype(add_row)>{.first = 0,
                                .last = args.a.rows(),
                                .cols = 2 * heads,
                                .elements = heads,
                                .out = sums.data(),
                                .accumulate = false,
                                .add_row = add_row}
      .Run(stream);
  const auto store = [&](const A* from, const TensorView& to, bool accumulate) {
    for (int64_t h = 0; !to.empty() && h < heads; ++h) {
      to.As<A>()[h] = from[h] + (accumulate ? to.As<A>()[h] : A{});
    }
  };
  store(sums.data(), args.da_log, args.accumulate_a_log);
  store(sums.data() + heads, args.ddt_bias, args.accumulate_dt_bias);
}

template <typename T>
void GatedNormForward(const GatedNormForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t e = args.x.shape[2];
  const T* weight = args.weight.As<T>();
  ParallelFor(stream, args.x.size() / e, e, [&](int64_t row) {
    const T* x = args.x.As<T>() + row * e;
    const T* z = args.z.As<T>() + row * e;
    T* y = args.y.As<T>() + row * e;
    const A rstd = InverseRms(x, e, args.eps);
#pragma omp simd
    for (int64_t i = 0; i < e; ++i) {
      const A gate = static_cast<A>(z[i]) / (A{1} + Exp(-static_cast<A>(z[i])));
      y[i] = static_cast<T>(static_cast<A>(weight[i]) * static_cast<A>(x[i]) * rstd * gate);
    }
  });
}

template <typename T>
void GatedNormBackward(const GatedNormBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t e = args.x.shape[2];
  const T* weight = args.weight.As<T>();
  const auto add_row = [&](int64_t row, A* sums) {
    const T* x = args.x.As<T>() + row * e;
    const T* z = args.z.As<T>() + row * e;
    const T* dy = args.dy.As<T>() + row * e;
    T* dx = args.dx.As<T>() + row * e;
    T* dz = args.dz.As<T>() + row * e;
    const A rstd = InverseRms(x, e, args.eps);
    const auto sigmoid = [&](int64_t i) { return A{1} / (A{1} + Exp(-static_cast<A>(z[i]))); };
    // Of what comes out of the norm, before its weight.
    const auto gradient = [&](int64_t i) { return static_cast<A>(dy[i]) * static_cast<A>(z[i]) * sigmoid(i); };
    const A mean =
        SumOf<A>(e, [&](int64_t i) { return gradient(i) * static_cast<A>(weight[i]) * static_cast<A>(x[i]) * rstd; }) /
        static_cast<A>(e);
    for (int64_t i = 0; i < e; ++i) {
      const A normed = static_cast<A>(x[i]) * rstd;
      const A g = gradient(i);
      const A s = sigmoid(i);
      const A slope = s * (A{1} + static_cast<A>(z[i]) * (A{1} - s));  // of SiLU
      const A dnormed = static_cast<A>(dy[i]) * static_cast<A>(weight[i]);
      sums[i] += g * normed;
      dz[i] = static_cast<T>(dnormed * normed * slope);
      dx[i] = static_cast<T>(rstd * (g * static_cast<A>(weight[i]) - normed * mean));
    }
  };
  RowSums<A, decltype(add_row)>{.first = 0,
                                .last = args.x.size() / e,
                                .cols = e,
                                .elements = e,
                                .out = args.dweight.As<A>(),
                                .accumulate = args.accumulate,
                                .add_row = add_row}
      .Run(stream);
}

template void L2NormForward<double>(const L2NormForwardArgs&, const Stream&);
template void L2NormForward<float>(const L2NormForwardArgs&, const Stream&);
template void L2NormForward<BFloat16>(const L2NormForwardArgs&, const Stream&);
template void L2NormBackward<double>(const L2NormBackwardArgs&, const Stream&);
template void L2NormBackward<float>(const L2NormBackwardArgs&, const Stream&);
template void L2NormBackward<BFloat16>(const L2NormBackwardArgs&, const Stream&);
template void DeltaGatesForward<double>(const DeltaGatesForwardArgs&, const Stream&);
template void DeltaGatesForward<float>(const DeltaGatesForwardArgs&, const Stream&);
template void DeltaGatesForward<BFloat16>(const DeltaGatesForwardArgs&, const Stream&);
template void DeltaGatesBackward<double>(const DeltaGatesBackwardArgs&, const Stream&);
template void DeltaGatesBackward<float>(const DeltaGatesBackwardArgs&, const Stream&);
template void DeltaGatesBackward<BFloat16>(const DeltaGatesBackwardArgs&, const Stream&);
template void GatedNormForward<double>(const GatedNormForwardArgs&, const Stream&);
template void GatedNormForward<float>(const GatedNormForwardArgs&, const Stream&);
template void GatedNormForward<BFloat16>(const GatedNormForwardArgs&, const Stream&);
template void GatedNormBackward<double>(const GatedNormBackwardArgs&, const Stream&);
template void GatedNormBackward<float>(const GatedNormBackwardArgs&, const Stream&);
template void GatedNormBackward<BFloat16>(const GatedNormBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
