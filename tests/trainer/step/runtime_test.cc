#include "trainer/step/runtime.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "parallel/comm/communicator.h"

namespace ksa {
namespace {

// The debug mode of docs/design/gpu.md: every operation waits for the device.
TEST(RuntimeTest, DebugSyncMakesTheDeviceStreamSynchronous) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  const auto synchronous = [&] {
    return Runtime(*self, {.device = DeviceKind::kCuda, .dry = true}).stream().synchronous;
  };
  unsetenv("KSA_DEBUG_SYNC");
  EXPECT_FALSE(synchronous());
  setenv("KSA_DEBUG_SYNC", "0", 1);
  EXPECT_FALSE(synchronous());
  setenv("KSA_DEBUG_SYNC", "1", 1);
  EXPECT_TRUE(synchronous());
  unsetenv("KSA_DEBUG_SYNC");
}

}  // namespace
}  // namespace ksa
