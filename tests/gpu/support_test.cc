#include "tests/gpu/support.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

namespace ksa {
namespace {

using testing::GpuTest;

TEST_F(GpuTest, MemoryComesBackAsItWent) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const int64_t size : {0, 1, 7, 1023}) {
      const Tensor x = testing::Normal("x", {size}, dtype, host());
      testing::ExpectSameBits(ToCpu(ToGpu(x)), x, "x");
    }
  }
}

TEST_F(GpuTest, FreshMemoryIsNan) {
  const Tensor x = ToCpu(Tensor::Empty({33}, DType::kBF16, device()));
  for (int64_t i = 0; i < x.size(); ++i) {
    EXPECT_TRUE(std::isnan(testing::ElementAt(x, i))) << i;
  }
}

TEST_F(GpuTest, WritesOutsideABlockAreSeen) {
  const auto write_beside = [&](int64_t offset) {
    const Tensor block = Tensor::Empty({3}, DType::kF32, device());
    const Tensor one = testing::Normal("one", {1}, DType::kF32, host());
    CopyFromHost(one, {block.As<float>() + offset, DType::kF32, stream().device, {1}}, stream());
  };
  EXPECT_NONFATAL_FAILURE(write_beside(3), "was overwritten");
  EXPECT_NONFATAL_FAILURE(write_beside(-1), "was overwritten");
  write_beside(2);
}

TEST(ErrorRule, AllowsTwiceThePlainErrorAndOneRounding) {
  testing::GuardAllocator memory;
  const Tensor exact = testing::Normal("x", {100}, DType::kF64, memory);
  const Tensor plain = testing::Clone(exact, memory);
  const Tensor actual = testing::Clone(exact, memory);
  plain.As<double>()[3] += 1.0;
  plain.As<double>()[4] -= 1.0;  // so that the mean square leaves room
  actual.As<double>()[70] -= 1.9;
  testing::ExpectAsAccurate(actual, plain, exact, "x");
  actual.As<double>()[70] -= 0.2;
  EXPECT_NONFATAL_FAILURE(testing::ExpectAsAccurate(actual, plain, exact, "x"), "x[70]");
  actual.As<double>()[70] = HUGE_VAL;
  EXPECT_EQ(testing::DeviationOf(actual, exact).largest, HUGE_VAL);
}

}  // namespace
}  // namespace ksa
