#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

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

// What one part of the vocabulary knows of a row, and what all parts together do: StatisticsOfRow elements of `stats`,
// of which the last three are there with further terms only.
template <typename A>
struct RowStats {
  A largest = 0;
  A sum = 0;           // of exp(logit - largest)
  A target_logit = 0;  // 0 in parts that do not hold the target
  A teacher_largest = 0;
  A teacher_sum = 0;  // of exp(teacher's logit - its largest)
  A teacher_gap = 0;  // of that times (teacher's logit - logit)

  void Store(A* to, int64_t width) const {
    const A all[] = {largest, sum, target_logit, teacher_largest, teacher_sum, teacher_gap};
    std::copy_n(all, width, to);
  }

  [[nodiscard]] static RowStats Load(const A* from, int64_t width) {
    A all[6] = {};
    std::copy_n(from, width, all);
    return {all[0], all[1], all[2], all[3], all[4], all[5]};
  }
};

// Of one row of logits [v]; a target outside of [0, v) is another part's. With `exponentiate` every logit becomes
// exp(logit - largest). NaN logits make a NaN sum: the largest element may miss them, the sum does not.
template <typename A>
void MeasureRow(A* logits, int64_t v, int64_t target, bool exponentiate, RowStats<A>& stats) {
  const A largest = Largest(logits, v);
  stats.largest = largest;
  stats.target_logit = target >= 0 && target < v ? logits[target] : A{0};
  if (!exponentiate) {
    stats.sum = SumOf<A>(v, [&](int64_t i) { return Exp(logits[i] - largest); });
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < v; ++i) {
    logits[i] = Exp(logits[i] - largest);
  }
  stats.sum = SumOf<A>(v, [&](int64_t i) { return logits[i]; });
}

// The same of the teacher's, which become exponentials, while `logits` are still logits.
template <typename A>
void MeasureTeacher(A* teacher, const A* logits, int64_t v, RowStats<A>& stats) {
  const A largest = Largest(teacher, v);
  stats.teacher_largest = largest;
  stats.teacher_gap = SumOf<A>(v, [&](int64_t i) { return Exp(teacher[i] - largest) * (teacher[i] - logits[i]); });
#pragma omp simd
  for (int64_t i = 0; i < v; ++i) {
    teacher[i] = Exp(teacher[i] - largest);
  }
  stats.teacher_sum = SumOf<A>(v, [&](int64_t i) { return teacher[i]; });
}

template <typename A>
A Rescale(A largest, A largest_of_all) {
  return largest == largest_of_all ? A{1} : std::exp(largest - largest_of_all);
}

// Of all parts p, in their order: stats[p · stride].
template <typename A>
RowStats<A> JoinParts(const A* stats, int64_t parts, int64_t stride, int64_t width) {
  const auto of = [&](int64_t p) { return RowStats<A>::Load(stats + p * stride, width); };
  RowStats<A> all = of(0);
  for (int64_t p = 1; p < parts; ++p) {
    all.largest = std::max(all.largest, of(p).largest);
    all.teacher_largest = std::max(all.teacher_largest, of(p).teacher_largest);
    all.target_logit += of(p).target_logit;
  }
  all.sum = A{0};
  all.teacher_sum = A{0};
  all.teacher_gap = A{0};
  for (int64_t p = 0; p < parts; ++p) {
    const RowStats<A> part = of(p);
    all.sum += part.sum * Rescale(part.largest, all.largest);
    const A scale = Rescale(part.teacher_largest, all.teacher_largest);
    all.teacher_sum += part.teacher_sum * scale;
    all.teacher_gap += part.teacher_gap * scale;
  }
  return all;
}

// What is known of a row in the end.
template <typename A>
struct RowTerms {
  A loss = 0;
  A lm = 0;
  A kl = 0;
  A z = 0;
  A largest = -std::numeric_limits<A>::infinity();
};

// A chunk of rows of logits, which become their own gradients when there is a backward pass.
template <typename A>
struct LogitRows {
  A* logits = nullptr;   // [rows, v]
  A* teacher = nullptr;  // [rows, v], or null
  const int32_t* targets = nullptr;
  RowTerms<A>* terms = nullptr;
  A* margins = nullptr;  // or null
  int64_t rows = 0;
  int64_t v = 0;
  int64_t first_id = 0;
  bool backward = false;
  bool further = false;  // HasFurtherTerms
  LossWeights weights;
  double scale = 0;

  [[nodiscard]] RowStats<A> Measure(int64_t r) const {
    RowStats<A> stats;
    if (targets[r] < 0) {
      return stats;
    }
    if (teacher != nullptr) {
      MeasureTeacher(teacher + r * v, logits + r * v, v, stats);
    }
    MeasureRow(logits + r * v, v, targets[r] - first_id, backward, stats);
    return stats;
  }

  void Finish(int64_t r, const RowStats<A>& own, const RowStats<A>& all) const {
    if (margins != nullptr) {  // the largest may miss a NaN, the sum does not
      margins[r] = targets[r] < 0 ? A{0} : std::isnan(all.sum) ? all.sum : all.target_logit - all.largest;
    }
    if (targets[r] < 0) {
      terms[r] = {};
      std::fill_n(logits + r * v, backward ? v : 0, A{0});
      return;
    }
    RowTerms<A>& row = terms[r];
    row.lm = std::log(all.sum) - (all.target_logit - all.largest);
    row.loss = row.lm;
    row.largest = all.largest;
    A softmax = static_cast<A>(scale);  // the weight of softmax(logits) in the gradient
    if (further) {
      const A lse = all.largest + std::log(all.sum);
      row.z = lse * lse;
      row.kl = teacher == nullptr
                   ? A{0}
                   : all.teacher_gap / all.teacher_sum - (all.teacher_largest + std::log(all.teacher_sum)) + lse;
      row.loss =
          static_cast<A>(weights.lm) * row.lm + static_cast<A>(weights.kl) * row.kl + static_cast<A>(weights.z) * row.z;
      softmax *= static_cast<A>(weights.lm + weights.kl) + static_cast<A>(2.0 * weights.z) * lse;
    }
    if (backward) {
      Differentiate(r, own, all, softmax);
    }
  }

 private:
  void Differentiate(int64_t r, const RowStats<A>& own, const RowStats<A>& all, A softmax) const {
    A* row = logits + r * v;
    const A factor = softmax / all.sum * Rescale(own.largest, all.largest);
    if (teacher == nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < v; ++i) {
        row[i] *= factor;
      }
    } else {
      const A* other = teacher + r * v;
      const A teacher_factor =
          static_cast<A>(scale * weights.kl) / all.teacher_sum * Rescale(own.teacher_largest, all.teacher_largest);
#pragma omp simd
      for (int64_t i = 0; i < v; ++i) {
        row[i] = row[i] * factor - other[i] * teacher_factor;
      }
    }
    const int64_t target = targets[r] - first_id;
    if (target >= 0 && target < v) {
      row[target] -= static_cast<A>(scale * weights.lm);
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
  const int64_t width = stats.shape[2];
  const int64_t stride = rows.rows * width;
  A* of_parts = stats.As<A>();
  A* own = of_parts + shard.part * stride;
  ParallelFor(stream, rows.rows, rows.v, [&](int64_t r) { rows.Measure(r).Store(own + r * width, width); });
  shard.gather_stats(stats);
  ParallelFor(stream, rows.rows, rows.v, [&](int64_t r) {
    rows.Finish(
        r, RowStats<A>::Load(own + r * width, width), JoinParts(of_parts + r * width, shard.parts, stride, width));
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
  if (args.dweight.empty()) {
    return;
  }
  const bool add = args.accumulate || first > 0;
  Gemm({.a = gradient, .b = args.x.Rows(first, rows), .c = args.dweight, .transpose_a = true, .beta = add ? 1.0 : 0.0},
       stream);
}

// The sums of an update, which rows are added to in their order.
template <typename A>
class Sums {
 public:
  void Add(const RowTerms<A>& row) {
    loss_ += static_cast<double>(row.loss);
    lm_ += static_cast<double>(row.lm);
    kl_ += static_cast<double>(row.kl);
    z_ += static_cast<double>(row.z);
    largest_ = std::max(largest_, static_cast<double>(row.largest));
  }

  void Write(const LinearCrossEntropyArgs& args) const {
    args.loss_sum.As<double>()[0] += loss_;
    if (!args.term_sums.empty()) {
      auto* terms = args.term_sums.As<double>();
      terms[0] += lm_;
      terms[1] += kl_;
      terms[2] += z_;
    }
    if (!args.largest.empty()) {
      auto* largest = args.largest.As<double>();
      *largest = std::max(*largest, largest_);
    }
  }

 private:
  double loss_ = 0.0;
  double lm_ = 0.0;
  double kl_ = 0.0;
  double z_ = 0.0;
  double largest_ = -std::numeric_limits<double>::infinity();
};

}  // namespace

template <typename T>
void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream) {
  using A = Accumulator<T>;
  const int64_t n = args.x.rows();
  const int64_t v = args.weight.rows();
  const bool backward = !args.dx.empty();
  if (backward && n == 0 && !args.accumulate && !args.dweight.empty()) {
    Zero(args.dweight, stream);
  }
  const bool has_teacher = !args.teacher_x.empty();
  const int64_t row_bytes = LongestPartOf(args) * static_cast<int64_t>(sizeof(A)) * (has_teacher ? 2 : 1);
  const int64_t chunk = std::clamp<int64_t>(kLogitBytes / row_bytes, 1, std::max<int64_t>(n, 1));
  const DType wide = DTypeOf<A>::value;
  const Tensor logits = Tensor::Empty({chunk, v}, wide, *args.allocator);
  const Tensor teacher = has_teacher ? Tensor::Empty({chunk, v}, wide, *args.allocator) : Tensor();
  std::vector<RowTerms<A>> terms(static_cast<size_t>(chunk));
  const int64_t parts = args.shard.parts;
  const int64_t width = StatisticsOfRow(args);
  const Tensor stats = parts > 1 ? Tensor::Empty({parts * chunk, width}, wide, *args.allocator) : Tensor();
  Sums<A> sums;
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t rows = std::min(chunk, n - first);
    const TensorView part = logits.view().Rows(0, rows);
    Gemm({.a = args.x.Rows(first, rows), .b = args.weight, .c = part, .transpose_b = true}, stream);
    if (has_teacher) {
      const TensorView of_teacher = teacher.view().Rows(0, rows);
      Gemm({.a = args.teacher_x.Rows(first, rows), .b = args.weight, .c = of_teacher, .transpose_b = true}, stream);
    }
    const TensorView shared =
        parts > 1 ? stats.view().Rows(0, parts * rows).Reshape({parts, rows, width}) : TensorView();
    LossesAndGradients<A>({.logits = part.As<A>(),
                           .teacher = teacher.As<A>(),
                           .targets = args.targets.As<int32_t>() + first,
                           .terms = terms.data(),
                           .margins = args.margin.empty() ? nullptr : args.margin.As<A>() + first,
                           .rows = rows,
                           .v = v,
                           .first_id = args.shard.first_id,
                           .backward = backward,
                           .further = HasFurtherTerms(args),
                           .weights = args.weights,
                           .scale = args.grad_scale},
                          args.shard,
                          shared,
                          stream);
    for (int64_t r = 0; r < rows; ++r) {
      sums.Add(terms[static_cast<size_t>(r)]);
      if (!args.row_loss.empty()) {
        args.row_loss.As<A>()[first + r] = terms[static_cast<size_t>(r)].loss;
      }
    }
    if (backward) {
      BackwardChunk<T>(args, part, first, stream);
    }
  }
  sums.Write(args);
}

template void LinearCrossEntropy<double>(const LinearCrossEntropyArgs&, const Stream&);
template void LinearCrossEntropy<float>(const LinearCrossEntropyArgs&, const Stream&);
template void LinearCrossEntropy<BFloat16>(const LinearCrossEntropyArgs&, const Stream&);

}  // namespace ksa::cpu
