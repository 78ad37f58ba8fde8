#include "kernels/loss/linear_cross_entropy.h"

#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/kernels/loss/loss_reference.h"
#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::BoundedValues;
using testing::GuardAllocator;
using testing::kGradScale;
using Problem = testing::LossProblem;
using Reference = testing::LossReference;

void Check(const Problem& p, bool accumulate) {
  SCOPED_TRACE(fmt::format("n {} d {} v {} {} accumulate {}", p.n, p.d, p.v, NameOf(p.dtype), accumulate));
  const Reference reference(p);
  const BoundedValues before = testing::Exact(p.dweight);
  p.Run(false, accumulate);
  testing::ExpectWithinBound(p.row_loss, reference.losses(), "row_loss of the loss alone");
  p.Run(true, accumulate);
  testing::ExpectWithinBound(p.row_loss, reference.losses(), "row_loss");
  double sum = 0.0;
  for (int64_t r = 0; r < p.n; ++r) {
    sum += testing::ElementAt(p.row_loss, r);
  }
  EXPECT_EQ(p.loss_sum.As<double>()[0], sum);
  testing::ExpectWithinBound(p.dx, reference.Dx(), "dx");
  testing::ExpectWithinBound(p.dweight, reference.Dweight(before, accumulate), "dweight");
}

TEST(LinearCrossEntropy, MatchesDefinition) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t v : {1, 3, 113}) {
      GuardAllocator memory;
      Check(Problem(1, 7, v, dtype, memory), true);
      Check(Problem(3, 1, v, dtype, memory), false);
      Check(Problem(33, 16, v, dtype, memory), true);
    }
  }
}

// A vocabulary so large that a chunk holds a few rows: 8 MiB of logits are 2 of double, 4 of float.
TEST(LinearCrossEntropy, ChunksOfRowsAddUp) {
  for (const DType dtype : {DType::kF64, DType::kBF16}) {
    GuardAllocator memory;
    Check(Problem(5, 1, 500009, dtype, memory), dtype == DType::kF64);
  }
}

TEST(LinearCrossEntropy, GradientsAreDerivatives) {
  GuardAllocator memory;
  const Problem p(7, 5, 11, DType::kF64, memory);
  p.Run(true, false);
  const auto f = [&] {
    p.Run(false, false);
    return kGradScale * p.loss_sum.As<double>()[0];
  };
  for (const auto& [input, gradient] : {std::pair{&p.x, &p.dx}, std::pair{&p.weight, &p.dweight}}) {
    EXPECT_LT(testing::RelativeDifference(testing::ToDouble(*gradient), testing::CentralDifferences(*input, f)),
              testing::kCentralDifferenceTolerance);
  }
}

TEST(LinearCrossEntropy, LargeLogitsDoNotOverflow) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    const Problem p(4, 3, 5, dtype, memory);
    for (int64_t i = 0; i < p.x.size(); ++i) {
      testing::SetElement(p.x, i, 1000.0 * testing::ElementAt(p.x, i));
    }
    Check(p, false);
  }
}

TEST(LinearCrossEntropy, WithoutRowsOrTargets) {
  GuardAllocator memory;
  const Problem none(0, 3, 5, DType::kF32, memory);
  none.Run(true, false);
  EXPECT_EQ(none.loss_sum.As<double>()[0], 0.0);
  for (const double value : testing::ToDouble(none.dweight)) {
    EXPECT_EQ(value, 0.0);
  }
  const Problem p(9, 3, 5, DType::kF32, memory);
  std::fill_n(p.targets.As<int32_t>(), 9, -100);
  const Tensor before = testing::Clone(p.dweight, memory);
  p.Run(true, true);
  EXPECT_EQ(p.loss_sum.As<double>()[0], 0.0);
  testing::ExpectSameBits(p.dweight, before, "dweight");
  for (const double value : testing::ToDouble(p.dx)) {
    EXPECT_EQ(value, 0.0);
  }
}

TEST(LinearCrossEntropy, NanReachesTheSum) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    for (const bool backward : {false, true}) {
      const Problem p(4, 3, 40, dtype, memory);
      testing::SetElement(p.weight, 17 * 3 + 1, std::numeric_limits<double>::quiet_NaN());
      p.Run(backward, false);
      EXPECT_TRUE(std::isnan(p.loss_sum.As<double>()[0]));
    }
  }
}

// The products may differ in bits with the number of threads (gemm.h); with one column in x they are exact, and all
// the rest may not.
TEST(LinearCrossEntropy, ThreadsDoNotMatterBesidesProducts) {
  GuardAllocator memory;
  for (const DType dtype : testing::kFloatingTypes) {
    testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
      const Problem p(151, 1, 1023, dtype, memory);
      p.Run(false, false, stream);
      return std::vector<Tensor>{p.row_loss, p.loss_sum};
    });
  }
}

TEST(LinearCrossEntropy, RefusesWrongArguments) {
  GuardAllocator memory;
  const Problem p(4, 3, 5, DType::kF32, memory);
  p.targets.As<int32_t>()[3] = 5;
  try {
    p.Run(false, false);
    FAIL() << "took target 5 of 5";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_STREQ(error.what(), "LinearCrossEntropy: target 5 at row 3, but the vocabulary has 5 entries");
  }
  Problem q(4, 3, 5, DType::kF32, memory);
  q.dweight = Tensor::Empty({4, 3}, DType::kF32, memory);
  EXPECT_THROW(q.Run(true, false), Error);
  EXPECT_THROW(LinearCrossEntropy({.x = q.x, .weight = q.weight, .targets = q.targets, .loss_sum = q.loss_sum}, {}),
               Error);
}

}  // namespace
}  // namespace ksa
