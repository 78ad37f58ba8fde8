// The loss of several terms: cross-entropy, divergence from a teacher, squared log-sum-exp.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/loss/linear_cross_entropy.h"
#include "tests/kernels/loss/loss_reference.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::GuardAllocator;
using testing::kGradScale;
using testing::LossProblem;
using testing::ToDouble;

constexpr LossWeights kWeights = {.lm = 0.5, .kl = 2.0, .z = 0.03};

// From the definitions, all logits at once, in double.
struct Naive {
  Naive(const LossProblem& p, const Tensor& teacher, const LossWeights& weights)
      : dx(static_cast<size_t>(p.n * p.d), 0.0), dweight(static_cast<size_t>(p.v * p.d), 0.0) {
    for (int64_t r = 0; r < p.n; ++r) {
      const int32_t target = p.targets.As<int32_t>()[r];
      rows.push_back(0.0);
      if (target >= 0) {
        AddRow(p, teacher, weights, r, target);
      }
    }
  }

  static std::vector<double> Logits(const LossProblem& p, const Tensor& x, int64_t r) {
    std::vector<double> logits(static_cast<size_t>(p.v), 0.0);
    for (int64_t j = 0; j < p.v; ++j) {
      for (int64_t i = 0; i < p.d; ++i) {
        logits[static_cast<size_t>(j)] += ElementAt(x, r * p.d + i) * ElementAt(p.weight, j * p.d + i);
      }
    }
    return logits;
  }

  static double LogSumExp(const std::vector<double>& logits) {
    double sum = 0.0;
    for (const double logit : logits) {
      sum += std::exp(logit);
    }
    return std::log(sum);
  }

  void AddRow(const LossProblem& p, const Tensor& teacher, const LossWeights& weights, int64_t r, int32_t target) {
    const std::vector<double> s = Logits(p, p.x, r);
    const double lse = LogSumExp(s);
    const double row_lm = lse - s[static_cast<size_t>(target)];
    double row_kl = 0.0;
    std::vector<double> t(s.size(), 0.0);
    if (!teacher.empty()) {
      t = Logits(p, teacher, r);
    }
    const double teacher_lse = LogSumExp(t);
    for (size_t j = 0; j < s.size(); ++j) {
      largest = std::max(largest, s[j]);
      const double q = teacher.empty() ? 0.0 : std::exp(t[j] - teacher_lse);
      row_kl += q * ((t[j] - teacher_lse) - (s[j] - lse));
      const double probability = std::exp(s[j] - lse);
      double gradient = weights.lm * (probability - (static_cast<int64_t>(j) == target ? 1.0 : 0.0));
      gradient += teacher.empty() ? 0.0 : weights.kl * (probability - q);
      gradient = kGradScale * (gradient + 2.0 * weights.z * lse * probability);
      for (int64_t i = 0; i < p.d; ++i) {
        dx[static_cast<size_t>(r * p.d + i)] += gradient * ElementAt(p.weight, static_cast<int64_t>(j) * p.d + i);
        dweight[j * static_cast<size_t>(p.d) + static_cast<size_t>(i)] += gradient * ElementAt(p.x, r * p.d + i);
      }
    }
    lm += row_lm;
    kl += row_kl;
    z += lse * lse;
    rows.back() = weights.lm * row_lm + weights.kl * row_kl + weights.z * lse * lse;
  }

  std::vector<double> rows, dx, dweight;
  double lm = 0.0;
  double kl = 0.0;
  double z = 0.0;
  double largest = -std::numeric_limits<double>::infinity();
};

struct Sums {
  Tensor terms;
  Tensor largest;
};

Sums RunLoss(const LossProblem& p, const Tensor& teacher, const LossWeights& weights, bool with_weight_gradient) {
  Sums sums = {Tensor::Zeros({3}, DType::kF64, p.memory), Tensor::Empty({1}, DType::kF64, p.memory)};
  sums.largest.As<double>()[0] = -std::numeric_limits<double>::infinity();
  p.loss_sum.As<double>()[0] = 0.0;
  LinearCrossEntropy({.x = p.x,
                      .weight = p.weight,
                      .targets = p.targets,
                      .row_loss = p.row_loss,
                      .loss_sum = p.loss_sum,
                      .weights = weights,
                      .teacher_x = teacher,
                      .term_sums = sums.terms,
                      .largest = sums.largest,
                      .dx = p.dx,
                      .dweight = with_weight_gradient ? p.dweight.view() : TensorView{},
                      .accumulate = false,
                      .grad_scale = kGradScale,
                      .allocator = &p.memory},
                     {});
  return sums;
}

TEST(LossTerms, MatchTheirDefinitions) {
  // fp32: sums of some thousand products; bf16: one rounding of the gradient.
  const std::pair<DType, double> types[] = {{DType::kF64, 1e-12}, {DType::kF32, 2e-5}, {DType::kBF16, 2e-2}};
  for (const auto& [dtype, bound] : types) {
    for (const bool with_teacher : {true, false}) {
      for (const int64_t v : {1, 7, 113}) {
        SCOPED_TRACE(fmt::format("{} v {} teacher {}", NameOf(dtype), v, with_teacher));
        GuardAllocator memory;
        const LossProblem p(23, 5, v, dtype, memory);
        const Tensor teacher = with_teacher ? testing::Normal("teacher", {23, 5}, dtype, memory) : Tensor();
        const LossWeights weights = {kWeights.lm, with_teacher ? kWeights.kl : 0.0, kWeights.z};
        const Sums sums = RunLoss(p, teacher, weights, true);
        const Naive naive(p, teacher, weights);
        const auto near = [&](double actual, double expected, const char* what) {
          EXPECT_NEAR(actual, expected, bound * std::max(1.0, std::abs(expected))) << what;
        };
        near(sums.terms.As<double>()[0], naive.lm, "lm");
        near(sums.terms.As<double>()[1], naive.kl, "kl");
        near(sums.terms.As<double>()[2], naive.z, "z");
        near(sums.largest.As<double>()[0], naive.largest, "largest");
        near(p.loss_sum.As<double>()[0],
             weights.lm * naive.lm + weights.kl * naive.kl + weights.z * naive.z,
             "the weighted sum");
        for (int64_t r = 0; r < p.n; ++r) {
          near(ElementAt(p.row_loss, r), naive.rows[static_cast<size_t>(r)], "a row");
        }
        EXPECT_LT(testing::RelativeDifference(ToDouble(p.dx), naive.dx), bound);
        EXPECT_LT(testing::RelativeDifference(ToDouble(p.dweight), naive.dweight), bound);
      }
    }
  }
}

TEST(LossTerms, ChunksOfRowsAddUp) {
  GuardAllocator memory;
  const LossProblem p(5, 1, 300007, DType::kF64, memory);  // three rows of both models fit into 8 MiB
  const Tensor teacher = testing::Normal("teacher", {5, 1}, DType::kF64, memory);
  const Sums sums = RunLoss(p, teacher, kWeights, true);
  const Naive naive(p, teacher, kWeights);
  EXPECT_NEAR(sums.terms.As<double>()[1], naive.kl, 1e-10);
  EXPECT_LT(testing::RelativeDifference(ToDouble(p.dweight), naive.dweight), 1e-11);
}

// A student that is its teacher diverges from nothing.
TEST(LossTerms, ATeacherThatIsTheStudent) {
  GuardAllocator memory;
  const LossProblem p(9, 4, 31, DType::kF64, memory);
  const Sums sums = RunLoss(p, p.x, {.lm = 0.0, .kl = 1.0}, true);
  EXPECT_NEAR(sums.terms.As<double>()[1], 0.0, 1e-13);
  for (const double value : ToDouble(p.dx)) {
    EXPECT_NEAR(value, 0.0, 1e-14);
  }
}

TEST(LossTerms, WithoutAGradientOfTheWeight) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    const LossProblem p(9, 4, 31, dtype, memory);
    const Tensor teacher = testing::Normal("teacher", {9, 4}, dtype, memory);
    static_cast<void>(RunLoss(p, teacher, kWeights, true));
    const Tensor dx = testing::Clone(p.dx, memory);
    const Tensor dweight = testing::Clone(p.dweight, memory);
    static_cast<void>(RunLoss(p, teacher, kWeights, false));
    testing::ExpectSameBits(p.dx, dx, "dx");
    testing::ExpectSameBits(p.dweight, dweight, "dweight stays as it was");
  }
}

TEST(LossTerms, LargestLogitOfTheCrossEntropyAlone) {
  GuardAllocator memory;
  const LossProblem p(9, 4, 31, DType::kF32, memory);
  const Sums sums = RunLoss(p, Tensor(), {}, true);
  const Naive naive(p, Tensor(), {});
  EXPECT_NEAR(sums.largest.As<double>()[0], naive.largest, 1e-5);
  EXPECT_NEAR(sums.terms.As<double>()[0], naive.lm, 1e-4);
  EXPECT_EQ(sums.terms.As<double>()[0], p.loss_sum.As<double>()[0]);
}

TEST(LossTerms, ADivergenceNeedsATeacher) {
  GuardAllocator memory;
  const LossProblem p(4, 3, 5, DType::kF32, memory);
  EXPECT_THROW(static_cast<void>(RunLoss(p, Tensor(), kWeights, true)), Error);
}

}  // namespace
}  // namespace ksa
