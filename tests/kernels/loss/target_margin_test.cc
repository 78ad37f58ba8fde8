// How far a target is from being the likeliest id.
#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/kernels/loss/loss_reference.h"

namespace ksa {
namespace {

using testing::GuardAllocator;
using testing::LossProblem;

Tensor MarginsOf(const LossProblem& p) {
  Tensor margin = Tensor::Empty({p.n}, AccumulationType(p.dtype), p.memory);
  p.loss_sum.As<double>()[0] = 0.0;
  LinearCrossEntropy({.x = p.x,
                      .weight = p.weight,
                      .targets = p.targets,
                      .row_loss = p.row_loss,
                      .margin = margin,
                      .loss_sum = p.loss_sum,
                      .allocator = &p.memory},
                     {});
  return margin;
}

TEST(TargetMargin, IsTheTargetsLogitBelowTheLargest) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t v : {1, 3, 113}) {
      SCOPED_TRACE(fmt::format("{} ids, {}", v, NameOf(dtype)));
      GuardAllocator memory;
      const LossProblem p(33, 7, v, dtype, memory);
      const Tensor margin = MarginsOf(p);
      int likeliest = 0;
      for (int64_t r = 0; r < p.n; ++r) {
        std::vector<double> logits;
        for (int64_t j = 0; j < v; ++j) {
          double logit = 0.0;
          for (int64_t i = 0; i < p.d; ++i) {
            logit += testing::ElementAt(p.x, r * p.d + i) * testing::ElementAt(p.weight, j * p.d + i);
          }
          logits.push_back(logit);
        }
        const int32_t target = p.targets.As<int32_t>()[r];
        const double largest = *std::max_element(logits.begin(), logits.end());
        const double expected = target < 0 ? 0.0 : logits[static_cast<size_t>(target)] - largest;
        // Sums of 7 products of numbers around 1, rounded in fp32.
        EXPECT_NEAR(testing::ElementAt(margin, r), expected, 1e-5) << "row " << r;
        if (expected == 0.0) {
          EXPECT_EQ(testing::ElementAt(margin, r), 0.0) << "row " << r;
          ++likeliest;
        } else {
          EXPECT_LT(testing::ElementAt(margin, r), 0.0) << "row " << r;
        }
      }
      EXPECT_GT(likeliest, 0);
    }
  }
}

TEST(TargetMargin, OfARowWithoutANumberIsNone) {
  GuardAllocator memory;
  const LossProblem p(5, 3, 40, DType::kF32, memory);
  p.x.As<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  const Tensor margin = MarginsOf(p);
  EXPECT_TRUE(std::isnan(margin.As<float>()[0]));
  EXPECT_FALSE(std::isnan(margin.As<float>()[1]));
}

TEST(TargetMargin, IsNotAskedForWithGradients) {
  GuardAllocator memory;
  const LossProblem p(5, 3, 7, DType::kF32, memory);
  const Tensor margin = Tensor::Empty({5}, DType::kF32, memory);
  EXPECT_THROW(LinearCrossEntropy({.x = p.x,
                                   .weight = p.weight,
                                   .targets = p.targets,
                                   .margin = margin,
                                   .loss_sum = p.loss_sum,
                                   .dx = p.dx,
                                   .dweight = p.dweight,
                                   .allocator = &memory},
                                  {}),
               Error);
}

}  // namespace
}  // namespace ksa
