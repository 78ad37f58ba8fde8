// Groups in which nothing travels.
#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/comm/communicator.h"
#include "tests/parallel/comm/collectives.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

TEST(SelfCommunicator, IsAGroupOfOne) {
  GuardAllocator memory;
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  CheckCollectives(*self, {}, memory);
  CheckHostValues(*self);
  CheckCollectives(*self->Split(3, 0, 1), {}, memory);
  EXPECT_THROW((void)self->Split(0, 0, 2), Error);
}

// Counts as a real group would, and touches nothing.
TEST(DryCommunicator, CountsAlone) {
  const std::unique_ptr<Communicator> world = MakeDryCommunicator(8, 5);
  const std::unique_ptr<Communicator> group = world->Split(1, 1, 4);
  EXPECT_EQ(group->rank(), 1);
  EXPECT_EQ(group->size(), 4);
  const TensorView x = {.data = reinterpret_cast<void*>(4096), .dtype = DType::kF32, .device = {}, .shape = {12, 5}};
  const std::array<int64_t, 4> sizes = {1, 2, 3, 6};
  group->AllReduceSum("a", x, {});
  group->ReduceScatterSum("b", x, {});
  group->AllGatherV("c", x, sizes, {}, Ordering::kUntilWait);
  group->AllToAll("d", x, x, {});
  const std::vector<Message> messages = {{0, x}, {1, x.Rows(0, 1)}};
  group->Exchange("e", messages, messages, {});
  group->Broadcast("f", x, 1, {});
  group->Wait({});
  const auto expect = [&](CollectiveKind kind, int64_t sent, int64_t received) {
    const CommCount& count = group->counts()[static_cast<size_t>(kind)];
    EXPECT_EQ(count.calls, 1) << NameOf(kind);
    EXPECT_EQ(count.sent, sent) << NameOf(kind);
    EXPECT_EQ(count.received, received) << NameOf(kind);
  };
  expect(CollectiveKind::kAllReduce, 360, 360);
  expect(CollectiveKind::kReduceScatter, 180, 180);
  expect(CollectiveKind::kAllGather, 120, 200);
  expect(CollectiveKind::kAllToAll, 180, 180);
  expect(CollectiveKind::kExchange, 240, 240);
  expect(CollectiveKind::kBroadcast, 240, 0);
  EXPECT_EQ(group->Sum(int64_t{7}), 7);
  EXPECT_EQ(group->Gather("text").size(), 4U);
}

}  // namespace
}  // namespace ksa::testing
