#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/copy/elementwise.h"
#include "kernels/core/parallel.h"
#include "kernels/core/vector_math.h"
#include "kernels/gemm/gemm.h"
#include "kernels/loss/linear_cross_entropy_backends.h"

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

// What one part of the vocabulary knows of a row, and what all parts together do: an element of `stats`.
template <typename A>
struct RowStats {
  A largest = 0;
  A sum = 0;           // of exp(logit - largest)
  A target_logit = 0;  // 0 in parts that do not hold the target
};

// Of one row of logits [v]; a target outside of [0, v) is another part's. With `exponentiate` every logit becomes
// exp(logit - largest). NaN logits make a NaN sum: the largest element may miss them, the sum does not.
template <typename A>
RowStats<A> MeasureRow(A* logits, int64_t v, int64_t target, bool exponentiate) {
  RowStats<A> stats;
  const A largest = Largest(logits, v);
  stats.largest = largest;
  stats.target_logit = target >= 0 && target < v ? logits[target] : A{0};
  if (!exponentiate) {
    stats.sum = SumOf<A>(v, [&](int64_t i) { return Exp(logits[i] - largest); });
    return stats;
  }
#pragma omp simd
  for (int64_t i = 0; i < v; ++i) {
    logits[i] = Exp(logits[i] - largest);
  }
  stats.sum = SumOf<A>(v, [&](int64_t i) { return logits[i]; });
  return stats;
}

template <typename A>
A Rescale(A largest, A largest_of_all) {
  return largest == largest_of_all ? A{1} : std::exp(largest - largest_of_all);
}

// stats[p · rows] for all parts p, in their order.
template <typename A>
RowStats<A> JoinParts(const RowStats<A>* stats, int64_t parts, int64_t rows) {
  RowStats<A> all = stats[0];
  for (int64_t p = 1; p < parts; ++p) {
    all.largest = std::max(all.largest, stats[p * rows].largest);
    all.target_logit += stats[p * rows].target_logit;
  }
  all.sum = A{0};
  for (int64_t p = 0; p < parts; ++p) {
    all.sum += stats[p * rows].sum * Rescale(stats[p * rows].largest, all.largest);
  }
  return all;
}

// A chunk of rows of logits, which become their own gradients when there is a backward pass.
template <typename A>
struct LogitRows {
  A* logits = nullptr;  // [rows, v]
  const int32_t* targets = nullptr;
  A* losses = nullptr;
  A* margins = nullptr;  // or null
  int64_t rows = 0;
  int64_t v = 0;
  int64_t first_id = 0;
  bool backward = false;
  A scale = 0;

  [[nodiscard]] RowStats<A> Measure(int64_t r) const {
    return targets[r] < 0 ? RowStats<A>() : MeasureRow(logits + r * v, v, targets[r] - first_id, backward);
  }

  void Finish(int64_t r, const RowStats<A>& own, const RowStats<A>& all) const {
    A* row = logits + r * v;
    if (margins != nullptr) {  // the largest may miss a NaN, the sum does not
      margins[r] = targets[r] < 0 ? A{0} : std::isnan(all.sum) ? all.sum : all.target_logit - all.largest;
    }
    if (targets[r] < 0) {
      losses[r] = A{0};
      std::fill_n(row, backward ? v : 0, A{0});
      return;
    }
    losses[r] = std::log(all.sum) - (all.target_logit - all.largest);
    if (!backward) {
      return;
    }
    const A factor = scale / all.sum * Rescale(own.largest, all.largest);
#pragma omp simd
    for (int64_t i = 0; i < v; ++i) {
      row[i] *= factor;
    }
    const int64_t target = targets[r] - first_id;
    if (target >= 0 && target < v) {
      row[target] -= scale;
    }
  }
};

// A row at a time where no other part is waited for: it stays in the cache.
template <typename A>
void LossesAndGradients(const LogitRows<A>& rows,
                        const VocabularyShard& shard,
                        const TensorView& stats,
                        const Stream& stream) {
  if (shard.parts == 1) {
    ParallelFor(stream, rows.rows, rows.v, [&](int64_t r) {
      const RowStats<A> all = rows.Measure(r);
      rows.Finish(r, all, all);
    });
    return;
  }
  auto* of_parts = reinterpret_cast<RowStats<A>*>(stats.As<A>());
  RowStats<A>* own = of_parts + shard.part * rows.rows;
  ParallelFor(stream, rows.rows, rows.v, [&](int64_t r) { own[r] = rows.Measure(r); });
  shard.gather_stats(stats);
  ParallelFor(stream, rows.rows, rows.v, [&](int64_t r) {
    rows.Finish(r, own[r], JoinParts(of_parts + r, shard.parts, rows.rows));
  });
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
  const int64_t row_bytes = LongestPartOf(args) * static_cast<int64_t>(sizeof(A));
  const int64_t chunk = std::clamp<int64_t>(kLogitBytes / row_bytes, 1, std::max<int64_t>(n, 1));
  const DType wide = DTypeOf<A>::value;
  const Tensor logits = Tensor::Empty({chunk, v}, wide, *args.allocator);
  const Tensor losses = Tensor::Empty({chunk}, wide, *args.allocator);
  const int64_t parts = args.shard.parts;
  const Tensor stats = parts > 1 ? Tensor::Empty({parts * chunk, 3}, wide, *args.allocator) : Tensor();
  const A scale = static_cast<A>(args.grad_scale);
  double total = 0.0;
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const TensorView part = logits.view().Rows(0, rows);
    A* loss = losses.As<A>();
    Gemm({.a = args.x.Rows(first, rows), .b = args.weight, .c = part, .transpose_b = true}, stream);
    const TensorView shared = parts > 1 ? stats.view().Rows(0, parts * rows).Reshape({parts, rows, 3}) : TensorView();
    LossesAndGradients<A>({.logits = part.As<A>(),
                           .targets = args.targets.As<int32_t>() + first,
                           .losses = loss,
                           .margins = args.margin.empty() ? nullptr : args.margin.As<A>() + first,
                           .rows = rows,
                           .v = v,
                           .first_id = args.shard.first_id,
                           .backward = backward,
                           .scale = scale},
                          args.shard,
                          shared,
                          stream);
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
