#include "kernels/core/gpu.h"

#include <cstring>

#include <gtest/gtest.h>

namespace ksa {
namespace {

constexpr Device kGpu = {DeviceKind::kCuda, 0};

TEST(PinnedMemory, IsOrdinaryMemoryWhereNoGpuComputes) {
  for (const Stream& stream : {Stream{}, Stream{.device = kGpu, .dry = true}}) {
    const PinnedMemory memory(1000, stream);
    EXPECT_EQ(memory.bytes(), 1000);
    std::memset(memory.data(), 1, 1000);
  }
}

TEST(PinnedMemory, OfAGpuNeedsOne) {
  if (GpuCount() > 0) {
    GTEST_SKIP() << "there is a GPU";
  }
  EXPECT_THROW(PinnedMemory(1000, {.device = kGpu}), Error);
}

}  // namespace
}  // namespace ksa
