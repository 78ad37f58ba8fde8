#include "kernels/core/vector_math.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace ksa {
namespace {

TEST(VectorMath, ExpOfFloatKeepsItsPromise) {
  // Every 997th float of [-87.3, 88.7]: results are normal numbers.
  double worst = 0.0;
  for (const bool negative : {false, true}) {
    const float limit = negative ? 87.3F : 88.7F;
    for (uint32_t bits = 0; bits < std::bit_cast<uint32_t>(limit); bits += 997) {
      const float x = negative ? -std::bit_cast<float>(bits) : std::bit_cast<float>(bits);
      const double exact = std::exp(static_cast<double>(x));
      worst = std::max(worst, std::abs(static_cast<double>(Exp(x)) - exact) / exact);
    }
  }
  EXPECT_LT(worst, 1e-7);
}

TEST(VectorMath, ExpOfFloatAtTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Exp(0.0F), 1.0F);
  EXPECT_EQ(Exp(-0.0F), 1.0F);
  EXPECT_EQ(Exp(89.0F), infinity);
  EXPECT_EQ(Exp(1e30F), infinity);
  EXPECT_EQ(Exp(infinity), infinity);
  EXPECT_EQ(Exp(-infinity), 0.0F);
  EXPECT_EQ(Exp(-1e30F), 0.0F);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isfinite(Exp(88.72F)));
  // Denormal results: within one step of them.
  for (float x = -103.0F; x < -87.3F; x += 0.37F) {
    EXPECT_NEAR(static_cast<double>(Exp(x)), std::exp(static_cast<double>(x)), 0x1p-149 + 1e-7 * std::exp(x)) << x;
  }
}

TEST(VectorMath, SumOfTakesEveryTermOnce) {
  for (const int64_t n : {0, 1, 7, 15, 16, 17, 113, 1023}) {
    std::vector<int> taken(static_cast<size_t>(n), 0);
    const double sum = SumOf<double>(n, [&](int64_t i) {
      ++taken[static_cast<size_t>(i)];
      return static_cast<double>(i);
    });
    EXPECT_EQ(sum, static_cast<double>(n * (n - 1) / 2));  // whole numbers: exact in any order
    EXPECT_EQ(taken, std::vector<int>(static_cast<size_t>(n), 1));
  }
}

}  // namespace
}  // namespace ksa
