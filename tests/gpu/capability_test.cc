// What is asked about a GPU is answered for that one, whichever the thread computes on.
#include <gtest/gtest.h>

#include "kernels/attention/cuda_paths.h"
#include "kernels/core/cuda.h"
#include "kernels/core/gpu.h"

namespace ksa {
namespace {

TEST(CapabilityTest, IsThatOfTheGpuAsked) {
  if (GpuCount() == 0) {
    GTEST_SKIP() << "no GPU";
  }
  for (int ordinal = GpuCount() - 1; ordinal >= 0; --ordinal) {
    const GpuInfo info = QueryGpu(ordinal);
    for (int again = 0; again < 2; ++again) {
      const cuda::Capability capability = cuda::CapabilityOf({DeviceKind::kCuda, ordinal});
      EXPECT_EQ(capability.major, info.major);
      EXPECT_GE(capability.compiled, 80);
      EXPECT_LE(capability.compiled, 10 * info.major + info.minor);
    }
  }
}

// Memory is planned for a GPU that is not there: for the one that the fastest kernels are made for.
TEST(CapabilityTest, OfNoGpuAtAll) {
  const Device nowhere{DeviceKind::kCuda, GpuCount() + 1000};
  EXPECT_EQ(cuda::CapabilityOf(nowhere).major, 9);
  EXPECT_EQ(cuda::CapabilityOf(nowhere).compiled, 90);
  const auto supports = [&](DType dtype) { return cuda_attention::wgmma::Supports(dtype, {128, 128}, nowhere); };
  EXPECT_TRUE(supports(DType::kBF16));
  EXPECT_FALSE(supports(DType::kF32));
}

}  // namespace
}  // namespace ksa
