// Margins of targets on the GPU against those on the CPU.
#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/loss/linear_cross_entropy.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

class GpuTargetMargin : public testing::GpuTest {
 protected:
  Tensor Margins(const Tensor& x, const Tensor& weight, const Tensor& targets, Allocator& memory, const Stream& where) {
    Tensor margin = Tensor::Empty({x.rows()}, DType::kF32, memory);
    const Tensor sum = Tensor::Empty({1}, DType::kF64, memory);
    LinearCrossEntropy(
        {.x = x, .weight = weight, .targets = targets, .margin = margin, .loss_sum = sum, .allocator = &memory}, where);
    return margin;
  }
};

TEST_F(GpuTargetMargin, LikeOnTheCpu) {
  for (const int64_t v : {1, 7, 113, 1033, 30001}) {
    SCOPED_TRACE(fmt::format("{} ids", v));
    const Tensor x = testing::Normal("x", {130, 16}, DType::kF32, host());
    const Tensor weight = testing::Normal("weight", {v, 16}, DType::kF32, host());
    const Tensor targets = testing::Integers("targets", {130}, -1, static_cast<int32_t>(v), host());
    x.As<float>()[16] = NAN;
    targets.As<int32_t>()[1] = 0;
    const Tensor expected = Margins(x, weight, targets, host(), {});
    const Tensor margin = ToCpu(Margins(ToGpu(x), ToGpu(weight), ToGpu(targets), device(), stream()));
    for (int64_t r = 0; r < 130; ++r) {
      const float a = margin.As<float>()[r];
      const float b = expected.As<float>()[r];
      EXPECT_EQ(std::isnan(a), std::isnan(b)) << "row " << r;
      // Sums of 16 products around 1, in tensor cores' TF32 or fp32.
      EXPECT_TRUE(std::isnan(b) || std::abs(a - b) < 2e-2F) << "row " << r << ": " << a << " and " << b;
      EXPECT_TRUE(targets.As<int32_t>()[r] >= 0 || a == 0.0F) << "row " << r;
    }
  }
}

}  // namespace
}  // namespace ksa
