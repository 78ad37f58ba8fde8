#include "kernels/distill/attention_term.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::ElementAt;
using testing::GuardAllocator;
using testing::ToDouble;

double Naive(const Tensor& student, const Tensor& teacher, bool normalize) {
  const int64_t d = student.cols();
  const auto divisor = [&](const Tensor& x, int64_t r) {
    double squares = 0.0;
    for (int64_t i = 0; i < d; ++i) {
      squares += ElementAt(x, r * d + i) * ElementAt(x, r * d + i);
    }
    return normalize ? std::sqrt(squares / static_cast<double>(d)) + 1e-6 : 1.0;
  };
  double sum = 0.0;
  for (int64_t r = 0; r < student.rows(); ++r) {
    for (int64_t i = 0; i < d; ++i) {
      const double gap =
          ElementAt(student, r * d + i) / divisor(student, r) - ElementAt(teacher, r * d + i) / divisor(teacher, r);
      sum += std::min(gap * gap, 0.1);
    }
  }
  return sum;
}

struct Problem {
  Problem(int64_t rows, int64_t columns, DType dtype, Allocator& memory)
      : student(testing::Normal("student", {rows, columns}, dtype, memory)),
        teacher(testing::Normal("teacher", {rows, columns}, dtype, memory)),
        gradient(Tensor::Empty({rows, columns}, dtype, memory)),
        sum(Tensor::Zeros({1}, DType::kF64, memory)) {}

  double Run(bool normalize, double scale, bool backward) const {
    sum.As<double>()[0] = 0.0;
    AttentionTerm({.student = student,
                   .teacher = teacher,
                   .dstudent = backward ? gradient.view() : TensorView{},
                   .sum = sum,
                   .scale = scale,
                   .normalize = normalize},
                  {});
    return sum.As<double>()[0];
  }

  Tensor student, teacher, gradient, sum;
};

TEST(AttentionTerm, MatchesItsDefinition) {
  for (const bool normalize : {false, true}) {
    for (const int64_t columns : {1, 7, 113}) {
      GuardAllocator memory;
      const Problem exact(5, columns, DType::kF64, memory);
      EXPECT_NEAR(exact.Run(normalize, 1.0, true), Naive(exact.student, exact.teacher, normalize), 1e-12);
      const Problem single(5, columns, DType::kF32, memory);
      EXPECT_NEAR(single.Run(normalize, 1.0, true), Naive(single.student, single.teacher, normalize), 1e-4);
      const Problem half(5, columns, DType::kBF16, memory);  // its values are exact; sums are fp32
      EXPECT_NEAR(half.Run(normalize, 1.0, true), Naive(half.student, half.teacher, normalize), 1e-4);
    }
  }
}

// Both sides of the clamp occur, and no element is as near to it as the step of the differences.
TEST(AttentionTerm, GradientsAreDerivatives) {
  for (const bool normalize : {false, true}) {
    GuardAllocator memory;
    const Problem p(4, 9, DType::kF64, memory);
    static_cast<void>(p.Run(normalize, 0.7, true));
    const auto f = [&] { return 0.7 * p.Run(normalize, 1.0, false); };
    const std::vector<double> expected = testing::CentralDifferences(p.student, f);
    EXPECT_LT(testing::RelativeDifference(ToDouble(p.gradient), expected), testing::kCentralDifferenceTolerance);
    int zeros = 0;
    for (const double value : ToDouble(p.gradient)) {
      zeros += value == 0.0 ? 1 : 0;
    }
    if (!normalize) {
      EXPECT_GT(zeros, 0) << "beyond the clamp nothing pulls";
      EXPECT_LT(zeros, 36);
    }
  }
}

TEST(AttentionTerm, RowsOfZerosAndNans) {
  GuardAllocator memory;
  const Problem p(2, 3, DType::kF64, memory);
  for (int64_t i = 0; i < 6; ++i) {
    testing::SetElement(p.student, i, 0.0);
    testing::SetElement(p.teacher, i, 0.0);
  }
  EXPECT_EQ(p.Run(true, 1.0, true), 0.0);
  EXPECT_EQ(ToDouble(p.gradient), std::vector<double>(6, 0.0));
  testing::SetElement(p.student, 4, std::numeric_limits<double>::quiet_NaN());
  EXPECT_TRUE(std::isnan(p.Run(false, 1.0, true)));
}

TEST(AttentionTerm, ThreadsDoNotMatter) {
  GuardAllocator memory;
  testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
    const Problem p(301, 33, DType::kF32, memory);
    AttentionTerm({.student = p.student, .teacher = p.teacher, .dstudent = p.gradient, .sum = p.sum, .normalize = true},
                  stream);
    return std::vector<Tensor>{p.gradient, p.sum};
  });
}

}  // namespace
}  // namespace ksa
