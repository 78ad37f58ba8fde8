#include "kernels/optimizer/clip_scale.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::GuardAllocator;

double Factor(double loss, double squares, double clip, double most_norm = HUGE_VAL) {
  GuardAllocator memory;
  const Tensor stats = Tensor::Empty({2}, DType::kF64, memory);
  const Tensor scale = Tensor::Empty({1}, DType::kF64, memory);
  stats.As<double>()[0] = loss;
  stats.As<double>()[1] = squares;
  ClipScale({.stats = stats, .scale = scale, .clip = clip, .most_norm = most_norm}, {});
  return *scale.As<double>();
}

TEST(ClipScale, ShrinksLongGradientsOnly) {
  EXPECT_EQ(Factor(2.0, 16.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_EQ(Factor(2.0, 16.0, 4.0), 4.0 / (4.0 + 1e-6));
  EXPECT_EQ(Factor(2.0, 16.0, 4.1), 1.0);
  EXPECT_EQ(Factor(2.0, 0.0, 1.0), 1.0);
  EXPECT_EQ(Factor(-2.0, 1e300, 0.0), 1.0);  // no clipping
  EXPECT_EQ(Factor(0.0, 1e300, 1.0), 1.0 / (1e150 + 1e-6));
}

TEST(ClipScale, NanWhereLossOrNormIsNotFinite) {
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    for (const double clip : {0.0, 1.0}) {
      EXPECT_TRUE(std::isnan(Factor(bad, 1.0, clip)));
      EXPECT_TRUE(std::isnan(Factor(-bad, 1.0, clip)));
      EXPECT_TRUE(std::isnan(Factor(1.0, bad, clip)));
    }
  }
  EXPECT_TRUE(std::isnan(Factor(1.0, -1.0, 1.0)));
}

TEST(ClipScale, NanWhereTheNormIsTooLarge) {
  EXPECT_TRUE(std::isnan(Factor(2.0, 16.0, 1.0, 3.9999)));
  EXPECT_TRUE(std::isnan(Factor(2.0, 16.0, 0.0, 3.9999)));
  EXPECT_EQ(Factor(2.0, 16.0, 0.0, 4.0), 1.0) << "not above it";
  EXPECT_EQ(Factor(2.0, 0.0, 1.0, 0.0), 1.0);
}

TEST(ClipScale, RefusesWrongArguments) {
  EXPECT_THROW((void)Factor(1.0, 1.0, 1.0, std::nan("")), Error);
  EXPECT_THROW((void)Factor(1.0, 1.0, 1.0, -1.0), Error);
  EXPECT_THROW((void)Factor(1.0, 1.0, -1.0), Error);
  EXPECT_THROW((void)Factor(1.0, 1.0, std::nan("")), Error);
  GuardAllocator memory;
  const Tensor stats = Tensor::Zeros({2}, DType::kF32, memory);
  const Tensor scale = Tensor::Zeros({1}, DType::kF64, memory);
  EXPECT_THROW(ClipScale({.stats = stats, .scale = scale}, {}), Error);
}

}  // namespace
}  // namespace ksa
