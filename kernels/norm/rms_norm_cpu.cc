#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/norm/rms_norm_backends.h"

namespace ksa::cpu {
namespace {

// sum = x + residual, or x where there is none. Any two of them may be the same row.
template <typename T>
void AddRow(const T* x, const T* residual, int64_t d, T* sum) {
  using A = Accumulator<T>;
  if (residual == nullptr) {
    std::memmove(sum, x, static_cast<size_t>(d) * sizeof(T));
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) {
    sum[i] = static_cast<T>(static_cast<A>(x[i]) + static_cast<A>(residual[i]));
  }
}

// One row of the backward pass; `sums` is the running gradient of the weight.
template <typename T, typename A>
struct BackwardRow {
  const T* dy;
  const T* x;
  const T* weight;
  const T* dx_residual;  // or null; may be dx
  T* dx;
  A rstd;
  A* sums;

  void Run(int64_t d) const {
    const A dot = SumOf<A>(
        d, [&](int64_t i) { return static_cast<A>(dy[i]) * static_cast<A>(weight[i]) * static_cast<A>(x[i]); });
    const A mean = dot * rstd / static_cast<A>(d);
    const A scale = rstd;
    // In pieces, so that what the norm gives is a number of its own before the residual is added: in one expression the
    // compiler may round the two together, and the bits would depend on what is fused.
    constexpr int64_t kPiece = 256;
    T own[kPiece];
    for (int64_t first = 0; first < d; first += kPiece) {
      const int64_t count = std::min(kPiece, d - first);
#pragma omp simd
      for (int64_t i = first; i < first + count; ++i) {
        const A normed = static_cast<A>(x[i]) * scale;
        const A g = static_cast<A>(dy[i]);
        sums[i] += g * normed;
        own[i - first] = static_cast<T>(scale * (g * static_cast<A>(weight[i]) - normed * mean));
      }
      if (dx_residual == nullptr) {
        std::copy_n(own, count, dx + first);
      } else {
        AddRow(own, dx_residual + first, count, dx + first);
      }
    }
  }
};

}  // namespace

template <typename T>
void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t d = args.x.cols();
  const T* weight_text = args.weight.As<T>();
  const T* weight_summary = args.weight_summary.empty() ? weight_text : args.weight_summary.As<T>();
  const int64_t residual_rows = args.residual.empty() ? 0 : args.residual.rows();
  ParallelFor(stream, args.x.rows(), d, [&](int64_t r) {
    const T* x = args.x.As<T>() + r * d;
    if (!args.residual.empty()) {
      T* sum = args.sum_out.As<T>() + r * d;
      AddRow(x, r < residual_rows ? args.residual.As<T>() + r * d : nullptr, d, sum);
      x = sum;
    }
    T* y = args.y.As<T>() + r * d;
    const T* weight = r < args.split ? weight_text : weight_summary;
    const A squares = SumOf<A>(d, [&](int64_t i) { return static_cast<A>(x[i]) * static_cast<A>(x[i]); });
    const A rstd = A{1} / std::sqrt(squares / static_cast<A>(d) + static_cast<A>(args.eps));
    args.rstd.As<A>()[r] = rstd;
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) {
      y[i] = static_cast<T>(static_cast<A>(x[i]) * rstd * static_cast<A>(weight[i]));
    }
  });
}

template <typename T>
void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t n = args.x.rows();
  const int64_t d = args.x.cols();
  const T* add_to = args.dx_residual.As<T>();
  const auto segment = [&](int64_t first, int64_t last, const TensorView& weight, const TensorView& out, bool add) {
    const auto add_row = [&](int64_t r, A* sums) {
      BackwardRow<T, A>{.dy = args.dy.As<T>() + r * d,
                        .x = args.x.As<T>() + r * d,
                        .weight = weight.As<T>(),
                        .dx_residual = add_to == nullptr ? nullptr : add_to + r * d,
                        .dx = args.dx.As<T>() + r * d,
                        .rstd = args.rstd.As<A>()[r],
                        .sums = sums}
          .Run(d);
    };
    RowSums<A, decltype(add_row)>{.first = first,
                                  .last = last,
                                  .cols = d,
                                  .elements = d,
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

template void RmsNormForward<double>(const RmsNormForwardArgs&, const Stream&);
template void RmsNormForward<float>(const RmsNormForwardArgs&, const Stream&);
template void RmsNormForward<BFloat16>(const RmsNormForwardArgs&, const Stream&);
template void RmsNormBackward<double>(const RmsNormBackwardArgs&, const Stream&);
template void RmsNormBackward<float>(const RmsNormBackwardArgs&, const Stream&);
template void RmsNormBackward<BFloat16>(const RmsNormBackwardArgs&, const Stream&);

}  // namespace ksa::cpu
