#include "kernels/loss/linear_cross_entropy_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/copy/elementwise.h"
#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/gemm/gemm.h"

namespace ksa::cpu {
namespace {

template <typename A>
A Largest(const A* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  A lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<A>::infinity());
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
#pragma omp simd
    for (int64_t l = 0; l < kLanes; ++l) {
      lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    }
  }
  for (int64_t i = whole; i < n; ++i) {
    lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  }
  return *std::max_element(lanes, lanes + kLanes);
}

// The loss of one row of logits [v]. NaN logits give a NaN loss: the largest element may miss them, the sum does not.
template <typename A>
A RowLoss(const A* logits, int64_t v, int32_t target) {
  if (target < 0) {
    return A{0};
  }
  const A largest = Largest(logits, v);
  const A sum = SumOf<A>(v, [&](int64_t i) { return Exp(logits[i] - largest); });
  return std::log(sum) - (logits[target] - largest);
}

// The same, and the logits become their gradient times `scale`.
template <typename A>
A RowLossAndGradient(A* logits, int64_t v, int32_t target, A scale) {
  if (target < 0) {
    std::fill_n(logits, v, A{0});
    return A{0};
  }
  const A largest = Largest(logits, v);
  const A target_logit = logits[target] - largest;
#pragma omp simd
  for (int64_t i = 0; i < v; ++i) {
    logits[i] = Exp(logits[i] - largest);
  }
  const A sum = SumOf<A>(v, [&](int64_t i) { return logits[i]; });
  const A factor = scale / sum;
#pragma omp simd
  for (int64_t i = 0; i < v; ++i) {
    logits[i] *= factor;
  }
  logits[target] -= scale;
  return std::log(sum) - target_logit;
}

// dx and dweight of one chunk of rows.
template <typename T>
void BackwardChunk(const LinearCrossEntropyArgs& args, const TensorView& dlogits, int64_t first, const Stream& stream) {
  const int64_t rows = dlogits.rows();
  Tensor rounded;
  TensorView gradient = dlogits;
  if constexpr (std::is_same_v<T, BFloat16>) {  // products take operands of one type
    rounded = Tensor::Empty(dlogits.shape, DType::kBF16, *args.allocator);
    Copy(dlogits, rounded, stream);
    gradient = rounded;
  }
  Gemm({.a = gradient, .b = args.weight, .c = args.dx.Rows(first, rows)}, stream);
  const bool add = args.accumulate || first > 0;
  Gemm({.a = gradient, .b = args.x.Rows(first, rows), .c = args.dweight, .transpose_a = true, .beta = add ? 1.0 : 0.0},
       stream);
}

}  // namespace

template <typename T>
void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t n = args.x.rows();
  const int64_t v = args.weight.rows();
  const bool backward = !args.dx.empty();
  if (backward && n == 0 && !args.accumulate) {
    Zero(args.dweight, stream);
  }
  const int64_t row_bytes = v * static_cast<int64_t>(sizeof(A));
  const int64_t chunk = std::clamp<int64_t>(kLogitBytes / row_bytes, 1, std::max<int64_t>(n, 1));
  const DType wide = DTypeOf<A>::value;
  const Tensor logits = Tensor::Empty({chunk, v}, wide, *args.allocator);
  const Tensor losses = Tensor::Empty({chunk}, wide, *args.allocator);
  const A scale = static_cast<A>(args.grad_scale);
  double total = 0.0;
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const TensorView part = logits.view().Rows(0, rows);
    const int32_t* targets = args.targets.As<int32_t>() + first;
    A* loss = losses.As<A>();
    Gemm({.a = args.x.Rows(first, rows), .b = args.weight, .c = part, .transpose_b = true}, stream);
    ParallelFor(stream, rows, v, [&](int64_t r) {
      A* row = part.As<A>() + r * v;
      loss[r] = backward ? RowLossAndGradient(row, v, targets[r], scale) : RowLoss(row, v, targets[r]);
    });
    for (int64_t r = 0; r < rows; ++r) {
      total += static_cast<double>(loss[r]);
    }
    if (!args.row_loss.empty()) {
      std::copy_n(loss, rows, args.row_loss.As<A>() + first);
    }
    if (backward) {
      BackwardChunk<T>(args, part, first, stream);
    }
  }
  args.loss_sum.As<double>()[0] += total;
}

template void LinearCrossEntropy<double>(const LinearCrossEntropyArgs&, const Stream&);
template void LinearCrossEntropy<float>(const LinearCrossEntropyArgs&, const Stream&);
template void LinearCrossEntropy<BFloat16>(const LinearCrossEntropyArgs&, const Stream&);

}  // namespace ksa::cpu
