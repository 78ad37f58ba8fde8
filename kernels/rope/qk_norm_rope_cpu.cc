#include <cmath>
#include <vector>

#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/rope/qk_norm_rope_backends.h"

namespace ksa::cpu {
namespace {

// cos and sin of one position, apart from each other: all heads of a row share them.
template <typename A>
struct Angles {
  A cos[kMaxHeadDim / 2];
  A sin[kMaxHeadDim / 2];

  void Load(const TensorView& table, int32_t position) {
    const int64_t half = table.shape[1];
    const A* row = table.As<A>() + position * half * 2;
    for (int64_t i = 0; i < half; ++i) {
      cos[i] = row[2 * i];
      sin[i] = row[2 * i + 1];
    }
  }
};

// y = rotation of (x · scale · weight); no weight means no norm.
template <typename T, typename A>
void ForwardHead(const T* x, const T* weight, A scale, const Angles<A>& angles, int64_t e, T* y) {
  const int64_t half = e / 2;
  if (weight == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const A x1 = static_cast<A>(x[i]);
      const A x2 = static_cast<A>(x[i + half]);
      y[i] = static_cast<T>(x1 * angles.cos[i] - x2 * angles.sin[i]);
      y[i + half] = static_cast<T>(x2 * angles.cos[i] + x1 * angles.sin[i]);
    }
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const A x1 = static_cast<A>(x[i]) * scale * static_cast<A>(weight[i]);
    const A x2 = static_cast<A>(x[i + half]) * scale * static_cast<A>(weight[i + half]);
    y[i] = static_cast<T>(x1 * angles.cos[i] - x2 * angles.sin[i]);
    y[i + half] = static_cast<T>(x2 * angles.cos[i] + x1 * angles.sin[i]);
  }
}

// g = dy rotated back: the gradient of what the forward pass rotated.
template <typename T, typename A, typename G>
void RotateBack(const T* dy, const Angles<A>& angles, int64_t e, G* g) {
  const int64_t half = e / 2;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const A g1 = static_cast<A>(dy[i]);
    const A g2 = static_cast<A>(dy[i + half]);
    g[i] = static_cast<G>(g1 * angles.cos[i] + g2 * angles.sin[i]);
    g[i + half] = static_cast<G>(g2 * angles.cos[i] - g1 * angles.sin[i]);
  }
}

// The norm's gradient for one head, from g, the gradient of its output.
template <typename T, typename A>
struct NormBackwardHead {
  const A* g;
  const T* x;
  const T* weight;
  A rstd;
  T* dx;
  A* sums;

  void Run(int64_t e) const {
    const A dot = SumOf<A>(e, [&](int64_t i) { return g[i] * static_cast<A>(weight[i]) * static_cast<A>(x[i]); });
    const A mean = dot * rstd / static_cast<A>(e);
    const A scale = rstd;
#pragma omp simd
    for (int64_t i = 0; i < e; ++i) {
      const A normed = static_cast<A>(x[i]) * scale;
      sums[i] += g[i] * normed;
      dx[i] = static_cast<T>(scale * (g[i] * static_cast<A>(weight[i]) - normed * mean));
    }
  }
};

// Without a norm only the rotation is undone.
template <typename T>
void BackwardWithoutNorm(const QkNormRopeBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t h = args.dy.shape[1];
  const int64_t e = args.dy.shape[2];
  ParallelFor(stream, args.dy.rows(), h * e, [&](int64_t r) {
    Angles<A> angles;
    angles.Load(args.table, args.layout.Position(r + args.first_row));
    for (int64_t i = r * h; i < (r + 1) * h; ++i) {
      RotateBack(args.dy.As<T>() + i * e, angles, e, args.dx.As<T>() + i * e);
    }
  });
}

}  // namespace

template <typename A>
void FillRopeTable(const TensorView& table, double theta, const Stream& stream) {
  const int64_t half = table.shape[1];
  A* out = table.As<A>();
  std::vector<double> frequencies;
  for (int64_t i = 0; i < half; ++i) {
    frequencies.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(half)));
  }
  // A cosine costs about as much as 16 plain elements.
  ParallelFor(stream, table.rows(), half * 32, [&](int64_t p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * frequencies[static_cast<size_t>(i)];
      out[(p * half + i) * 2] = static_cast<A>(std::cos(angle));
      out[(p * half + i) * 2 + 1] = static_cast<A>(std::sin(angle));
    }
  });
}

template <typename T>
void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t h = args.x.shape[1];
  const int64_t e = args.x.shape[2];
  const T* weight_text = args.weight.As<T>();
  const T* weight_summary = args.weight_summary.empty() ? weight_text : args.weight_summary.As<T>();
  ParallelFor(stream, args.x.rows(), h * e, [&](int64_t r) {
    Angles<A> angles;
    angles.Load(args.table, args.layout.Position(r + args.first_row));
    const T* weight = r < args.split ? weight_text : weight_summary;
    for (int64_t i = r * h; i < (r + 1) * h; ++i) {
      const T* x = args.x.As<T>() + i * e;
      A rstd = A{1};
      if (weight != nullptr) {
        const A squares = SumOf<A>(e, [&](int64_t j) { return static_cast<A>(x[j]) * static_cast<A>(x[j]); });
        rstd = A{1} / std::sqrt(squares / static_cast<A>(e) + static_cast<A>(args.eps));
        args.rstd.As<A>()[i] = rstd;
      }
      ForwardHead(x, weight, rstd, angles, e, args.y.As<T>() + i * e);
    }
  });
}

template <typename T>
void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  if (args.weight.empty()) {
    BackwardWithoutNorm<T>(args, stream);
    return;
  }
  const int64_t n = args.x.rows();
  const int64_t h = args.x.shape[1];
  const int64_t e = args.x.shape[2];
  const auto segment = [&](int64_t first, int64_t last, const TensorView& weight, const TensorView& out, bool add) {
    const auto add_row = [&](int64_t r, A* sums) {
      Angles<A> angles;
      angles.Load(args.table, args.layout.Position(r + args.first_row));
      A g[kMaxHeadDim];
      for (int64_t i = r * h; i < (r + 1) * h; ++i) {
        RotateBack(args.dy.As<T>() + i * e, angles, e, g);
        NormBackwardHead<T, A>{.g = g,
                               .x = args.x.As<T>() + i * e,
                               .weight = weight.As<T>(),
                               .rstd = args.rstd.As<A>()[i],
                               .dx = args.dx.As<T>() + i * e,
                               .sums = sums}
            .Run(e);
      }
    };
    RowSums<A, decltype(add_row)>{.first = first,
                                  .last = last,
                                  .cols = e,
                                  .elements = h * e,
                                  .out = out.As<A>(),
                                  .accumulate = add,
                                  .add_row = add_row}
        .Run(stream);
  };
  if (args.weight_summary.empty()) {
    segment(0, n, args.weight, args.dweight, args.accumulate);
  } else {
    segment(0, args.split, args.weight, args.dweight, args.accumulate);
    segment(args.split, n, args.weight_summary, args.dweight_summary, args.accumulate_summary);
  }
}

template void FillRopeTable<double>(const TensorView&, double, const Stream&);
template void FillRopeTable<float>(const TensorView&, double, const Stream&);
template void QkNormRopeForward<double>(const QkNormRopeForwardArgs&, const Stream&);
template void QkNormRopeForward<float>(const QkNormRopeForwardArgs&, const Stream&);
template void QkNormRopeForward<BFloat16>(const QkNormRopeForwardArgs&, const Stream&);
template void QkNormRopeBackward<double>(const QkNormRopeBackwardArgs&, const Stream&);
template void QkNormRopeBackward<float>(const QkNormRopeBackwardArgs&, const Stream&);
template void QkNormRopeBackward<BFloat16>(const QkNormRopeBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
