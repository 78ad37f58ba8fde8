#include "kernels/copy/elementwise.h"

#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/support/error_bound.h"
#include "tests/support/kernel_test.h"

namespace ksa {
namespace {

using testing::Bounded;
using testing::BoundedValues;
using testing::GuardAllocator;

constexpr std::array<int64_t, 7> kSizes = {1, 3, 7, 113, 1023, 4097, 20011};

TEST(Copy, ConvertsBetweenAllTypes) {
  for (const DType from_type : testing::kFloatingTypes) {
    for (const DType to_type : testing::kFloatingTypes) {
      for (const int64_t size : kSizes) {
        SCOPED_TRACE(fmt::format("{} of {} to {}", size, NameOf(from_type), NameOf(to_type)));
        GuardAllocator memory;
        const Tensor from = testing::Normal("from", {size}, from_type, memory);
        const Tensor to = Tensor::Empty({size}, to_type, memory);
        Copy(from, to, {.device = {}, .threads = 2});
        for (int64_t i = 0; i < size; ++i) {
          // One rounding, to bf16 by way of float, as everywhere.
          double expected = testing::ElementAt(from, i);
          expected = to_type == DType::kF64 ? expected : static_cast<double>(static_cast<float>(expected));
          if (to_type == DType::kBF16) {
            expected = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(expected))));
          }
          ASSERT_EQ(testing::ElementAt(to, i), expected) << i;
        }
      }
    }
  }
}

TEST(Copy, KeepsNanInfinityAndSignedZero) {
  GuardAllocator memory;
  const std::vector<double> values = {
      std::numeric_limits<double>::quiet_NaN(), INFINITY, -INFINITY, -0.0, 1e300, std::nan("1")};
  for (const DType to_type : testing::kFloatingTypes) {
    const Tensor from = Tensor::Empty({6}, DType::kF64, memory);
    std::copy(values.begin(), values.end(), from.As<double>());
    const Tensor to = Tensor::Empty({2, 3}, to_type, memory);
    Copy(from, to, {});
    EXPECT_TRUE(std::isnan(testing::ElementAt(to, 0)));
    EXPECT_EQ(testing::ElementAt(to, 1), INFINITY);
    EXPECT_EQ(testing::ElementAt(to, 2), -INFINITY);
    EXPECT_TRUE(std::signbit(testing::ElementAt(to, 3)));
    EXPECT_EQ(testing::ElementAt(to, 4), to_type == DType::kF64 ? 1e300 : INFINITY);
    EXPECT_TRUE(std::isnan(testing::ElementAt(to, 5)));
  }
}

TEST(Copy, Integers) {
  GuardAllocator memory;
  const Tensor from = testing::Integers("from", {1023}, -50, 50, memory);
  const Tensor to = Tensor::Empty({1023}, DType::kI32, memory);
  Copy(from, to, {});
  testing::ExpectSameBits(from, to, "to");
  EXPECT_THROW(Copy(from, Tensor::Empty({1023}, DType::kF32, memory), {}), Error);
  EXPECT_THROW(Copy(from, Tensor::Empty({1022}, DType::kI32, memory), {}), Error);
}

TEST(Zero, ClearsEveryElement) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI32}) {
    for (const int64_t size : kSizes) {
      GuardAllocator memory;
      const Tensor x = Tensor::Empty({size}, dtype, memory);
      Zero(x, {.device = {}, .threads = 2});
      testing::ExpectSameBits(x, Tensor::Zeros({size}, dtype, memory), "x");
    }
  }
}

TEST(Add, MatchesDefinitionAndMayOverwrite) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t size : kSizes) {
      SCOPED_TRACE(fmt::format("{} of {}", size, NameOf(dtype)));
      GuardAllocator memory;
      const Tensor a = testing::Normal("a", {size}, dtype, memory);
      const Tensor b = testing::Normal("b", {size}, dtype, memory);
      const Tensor y = Tensor::Empty({size}, dtype, memory);
      const BoundedValues left = testing::Exact(a);
      const BoundedValues right = testing::Exact(b);
      BoundedValues expected;
      for (size_t i = 0; i < left.size(); ++i) {
        expected.push_back(left[i] + right[i]);
      }
      Add(a, b, y, {});
      testing::ExpectWithinBound(y, expected, "y");
      const Tensor over_a = testing::Clone(a, memory);
      Add(over_a, b, over_a, {});
      testing::ExpectSameBits(over_a, y, "y over a");
      const Tensor twice = testing::Clone(a, memory);
      Add(twice, twice, twice, {});
      EXPECT_EQ(testing::ElementAt(twice, size - 1), 2.0 * testing::ElementAt(a, size - 1));
    }
  }
}

TEST(Axpby, MatchesDefinitionAndMayOverwrite) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t size : kSizes) {
      for (const double keep : {0.0, 1.0, -0.75}) {
        SCOPED_TRACE(fmt::format("{} of {}, b {}", size, NameOf(dtype), keep));
        GuardAllocator memory;
        const Tensor x = testing::Normal("x", {size}, dtype, memory);
        const Tensor y = keep == 0.0 ? Tensor::Empty({size}, dtype, memory)  // NaN that must not be read
                                     : testing::Normal("y", {size}, dtype, memory);
        const BoundedValues in = testing::Exact(x);
        const BoundedValues old = testing::Exact(y);
        BoundedValues expected;
        for (size_t i = 0; i < in.size(); ++i) {
          const Bounded scaled = Bounded(1.5) * in[i];
          expected.push_back(keep == 0.0 ? scaled : scaled + Bounded(keep) * old[i]);
        }
        Axpby(1.5, x, keep, y, {});
        testing::ExpectWithinBound(y, expected, "y");
        const Tensor same = testing::Clone(x, memory);
        Axpby(0.25, same, 0.5, same, {});
        for (int64_t i = 0; i < size; ++i) {
          const float expected_bf16 = static_cast<float>(BFloat16(static_cast<float>(0.75 * testing::ElementAt(x, i))));
          const double unrounded = 0.75 * testing::ElementAt(x, i);
          const double want = dtype == DType::kF64   ? unrounded
                              : dtype == DType::kF32 ? static_cast<double>(static_cast<float>(unrounded))
                                                     : static_cast<double>(expected_bf16);
          ASSERT_EQ(testing::ElementAt(same, i), want) << i;
        }
      }
    }
  }
}

TEST(SumOfSquares, MatchesDefinition) {
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t size : kSizes) {
      GuardAllocator memory;
      const Tensor x = testing::Normal("x", {size}, dtype, memory);
      const Tensor out = Tensor::Zeros({1}, DType::kF64, memory);
      testing::Sum sum;
      for (int64_t i = 0; i < size; ++i) {
        const Bounded value(testing::ElementAt(x, i), 0.0L, 0x1p-53L);  // accumulated in double, whatever x is
        sum.Add(value * value);
      }
      SumOfSquares(x, out, {});
      testing::ExpectWithinBound(out, {sum.Result()}, "out");
    }
  }
  GuardAllocator memory;
  const Tensor out = Tensor::Zeros({1}, DType::kF64, memory);
  SumOfSquares(Tensor::Empty({0}, DType::kF32, memory), out, {});
  EXPECT_EQ(out.As<double>()[0], 0.0);
}

TEST(SumOfSquares, NonFiniteElementsShowWhereverTheyAre) {
  GuardAllocator memory;
  const Tensor out = Tensor::Zeros({1}, DType::kF64, memory);
  for (const DType dtype : testing::kFloatingTypes) {
    for (const int64_t at : {0, 15, 16, 4095, 4096, 8190}) {
      for (const double bad : {std::numeric_limits<double>::quiet_NaN(), static_cast<double>(-INFINITY)}) {
        const Tensor x = testing::Normal("x", {8191}, dtype, memory);
        testing::SetElement(x, at, bad);
        out.As<double>()[0] = 0.0;
        SumOfSquares(x, out, {});
        EXPECT_FALSE(std::isfinite(out.As<double>()[0])) << NameOf(dtype) << " at " << at;
      }
    }
  }
  // Squares that overflow float do not overflow here.
  const Tensor large = Tensor::Zeros({3}, DType::kF32, memory);
  large.As<float>()[1] = 1e30F;
  out.As<double>()[0] = 0.0;
  SumOfSquares(large, out, {});
  EXPECT_NEAR(out.As<double>()[0], 1e60, 1e54);
  SumOfSquares(large, out, {});
  EXPECT_NEAR(out.As<double>()[0], 2e60, 1e54) << "a second sum is added";
}

TEST(Elementwise, ThreadsDoNotMatter) {
  GuardAllocator memory;
  constexpr int64_t kSize = 70001;
  for (const DType dtype : testing::kFloatingTypes) {
    const Tensor a = testing::Normal("a", {kSize}, dtype, memory);
    const Tensor b = testing::Normal("b", {kSize}, dtype, memory);
    testing::ExpectSameForAllThreadCounts([&](const Stream& stream) {
      const Tensor sum = Tensor::Empty({kSize}, dtype, memory);
      const Tensor copy = Tensor::Empty({kSize}, DType::kBF16, memory);
      const Tensor mixed = testing::Clone(b, memory);
      const Tensor squares = Tensor::Zeros({1}, DType::kF64, memory);
      Add(a, b, sum, stream);
      Copy(a, copy, stream);
      Axpby(0.3, a, 0.7, mixed, stream);
      SumOfSquares(a, squares, stream);
      return std::vector<Tensor>{sum, copy, mixed, squares};
    });
  }
}

TEST(Elementwise, RefusesWrongArguments) {
  GuardAllocator memory;
  const Tensor a = testing::Normal("a", {5}, DType::kF32, memory);
  const Tensor b = testing::Normal("b", {6}, DType::kF32, memory);
  const Tensor c = testing::Normal("c", {5}, DType::kF64, memory);
  EXPECT_THROW(Add(a, b, a, {}), Error);
  EXPECT_THROW(Add(a, c, a, {}), Error);
  EXPECT_THROW(Axpby(1.0, a, 1.0, c, {}), Error);
  EXPECT_THROW(SumOfSquares(a, a.Rows(0, 1), {}), Error);
  EXPECT_THROW(Copy(a, b, {}), Error);
}

}  // namespace
}  // namespace ksa
