// NCCL's make of the communicator: two GPUs of one process, each with a thread of its own.
#include "parallel/comm/nccl.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "tests/gpu/ranks_on_gpus.h"
#include "tests/parallel/comm/collectives.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

constexpr int64_t kMemory = int64_t{512} << 20;

// A rank's GPU: its stream and memory, taken at once, for while the ranks talk the driver must not be asked for more
// (it would wait for kernels that wait for the other rank).
struct RankGpu {
  explicit RankGpu(int ordinal) : queue(ordinal, 1), slabs(ordinal), memory(slabs, kMemory) {}

  [[nodiscard]] const Stream& stream() const { return queue.stream(); }

  GpuStream queue;
  GpuSlabs slabs;
  ArenaAllocator memory;
};

using Work = std::function<void(Communicator& group, RankGpu& gpu)>;

// Runs `work` on `size` ranks, rank r on GPU r.
void RunOnGpus(int size, const Work& work, std::optional<NcclOrder> order = {}) {
  RunRanks(size, [&](Communicator& world) {
    RankGpu gpu(world.rank());
    const std::unique_ptr<Communicator> group =
        MakeNcclCommunicator(world.Split(0, world.rank(), size), gpu.stream().device, {.order = order});
    work(*group, gpu);
    Synchronize(gpu.stream());
    world.Barrier();  // nobody frees memory while another's kernels may run
  });
}

constexpr NcclOrder kOrders[] = {NcclOrder::kByLaunch, NcclOrder::kOneStream};

class Nccl : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotOnGpus(GetParam()); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

TEST_P(Nccl, EveryCollective) {
  for (const NcclOrder order : kOrders) {
    RunOnGpus(
        GetParam(),
        [](Communicator& group, RankGpu& gpu) {
          CheckCollectives(group, gpu.stream(), gpu.memory);
          CheckHostValues(group);
          PollNcclErrors();
        },
        order);
  }
}

TEST_P(Nccl, NestedSplits) {
  RunOnGpus(GetParam(), [](Communicator& group, RankGpu& gpu) { CheckSplits(group, gpu.stream(), gpu.memory); });
}

// Random numbers against the threads' sums in the order of the ranks: of two numbers there is only one sum.
TEST_P(Nccl, SumsAreThoseOfThreads) {
  const int size = GetParam();
  RunRanks(size, [size](Communicator& world) {
    RankGpu gpu(world.rank());
    HostAllocator host;
    const std::unique_ptr<Communicator> group =
        MakeNcclCommunicator(world.Split(0, world.rank(), size), gpu.stream().device);
    for (const DType dtype : {DType::kF64, DType::kF32}) {
      const Tensor values = Normal("rank " + std::to_string(world.rank()), {100003}, dtype, host);
      const Tensor x = Tensor::Empty(values.shape(), dtype, gpu.memory);
      CopyFromHost(values, x, gpu.stream());
      group->AllReduceSum("test.sum", x, gpu.stream());
      world.AllReduceSum("test.sum", values, {});
      const HostCopy actual(x, gpu.stream());
      ExpectSameBits(actual.view(), values, "the sum");
    }
    world.Barrier();
  });
}

// While a collective runs until Wait, the stream's own kernels go on, and what they do before the call is seen by it.
TEST_P(Nccl, RunsBesideTheStreamUntilWait) {
  RunOnGpus(GetParam(), [](Communicator& group, RankGpu& gpu) {
    constexpr int64_t kCount = int64_t{8} << 20;
    HostAllocator host;
    const Tensor ones = Tensor::Empty({kCount}, DType::kF32, host);
    std::fill_n(ones.As<float>(), kCount, 1.0F);
    const Tensor x = Tensor::Empty({kCount}, DType::kF32, gpu.memory);
    const Tensor work = Tensor::Empty({kCount}, DType::kF32, gpu.memory);
    CopyFromHost(ones, x, gpu.stream());
    CopyFromHost(ones, work, gpu.stream());
    for (int i = 0; i < 20; ++i) {
      Axpby(2.0, x, 0.0, x, gpu.stream());
      group.AllReduceSum("test.sum", x, gpu.stream(), Ordering::kUntilWait);
      Axpby(1.0, work, 0.5, work, gpu.stream());
      group.Wait(gpu.stream());
      Axpby(0.5 / group.size(), x, 0.0, x, gpu.stream());
    }
    const HostCopy actual(x, gpu.stream());
    for (int64_t i = 0; i < kCount; i += 4097) {
      ASSERT_EQ(actual.As<float>()[i], 1.0F) << i;
    }
  });
}

// A dry stream asks for nothing.
TEST_P(Nccl, DryStreamsMoveNothing) {
  RunOnGpus(GetParam(), [](Communicator& group, RankGpu& gpu) {
    Stream dry = gpu.stream();
    dry.dry = true;
    const TensorView x = {.data = reinterpret_cast<void*>(4096),
                          .dtype = DType::kF32,
                          .device = dry.device,
                          .shape = {int64_t{4} * group.size()}};
    group.AllReduceSum("a", x, dry);
    group.ReduceScatterSum("b", x, dry);
    group.AllGather("c", x, dry, Ordering::kUntilWait);
    group.AllToAll("d", x, x, dry);
    const std::vector<Message> messages = {{group.rank(), x}};
    group.Exchange("e", messages, messages, dry);
    group.Broadcast("f", x, 0, dry);
    group.Wait(dry);
  });
}

INSTANTIATE_TEST_SUITE_P(Gpus, Nccl, ::testing::Values(1, 2));

class NcclPair : public Nccl {};

// A rank that never comes: the other is told after the limit.
TEST_P(NcclPair, RankThatDoesNotCome) {
  try {
    RunRanks(2, [](Communicator& world) {
      RankGpu gpu(world.rank());
      std::unique_ptr<Communicator> host = world.Split(0, world.rank(), 2);
      if (world.rank() == 1) {
        std::string id;
        host->Broadcast(id, 0);  // takes part in the id's broadcast, then in nothing
        world.Barrier();
        return;
      }
      try {
        (void)MakeNcclCommunicator(std::move(host), gpu.stream().device, {.init_limit_seconds = 2.0});
        ADD_FAILURE() << "a group of two was made by one";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kPeerLost) << error.what();
        EXPECT_NE(std::string(error.what()).find("not all ranks came within 2 s"), std::string::npos) << error.what();
      }
      world.Barrier();
    });
  } catch (const Error& error) {
    ADD_FAILURE() << error.what();
  }
}

// An exception on one rank, with a collective queued that the other will never join: nobody hangs.
TEST_P(NcclPair, RankThatFails) {
  const std::vector<std::exception_ptr> errors = RunRanksToEnd(2, [](Communicator& world) {
    RankGpu gpu(world.rank());
    const std::unique_ptr<Communicator> group =
        MakeNcclCommunicator(world.Split(0, world.rank(), 2), gpu.stream().device);
    const Tensor x = Tensor::Empty({1 << 20}, DType::kF32, gpu.memory);
    group->AllReduceSum("test.first", x, gpu.stream());
    if (world.rank() == 1) {
      Fail(ExitCode::kDiverged, "this rank fails");
    }
    group->AllReduceSum("test.second", x, gpu.stream());
    world.Barrier();
  });
  ASSERT_TRUE(errors[0] && errors[1]);
  for (const auto& [rank, code] : {std::pair(0, ExitCode::kPeerLost), std::pair(1, ExitCode::kDiverged)}) {
    try {
      std::rethrow_exception(errors[static_cast<size_t>(rank)]);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
    }
  }
}

// A call that NCCL refuses in the middle of a group: what the thread asks of other groups afterwards is done, instead
// of being added to a group that nobody ends.
TEST_P(NcclPair, AFailedCallLeavesNoGroupOpen) {
  RunRanks(2, [](Communicator& world) {
    RankGpu gpu(world.rank());
    const Device device = gpu.stream().device;
    const std::unique_ptr<Communicator> good = MakeNcclCommunicator(world.Split(0, world.rank(), 2), device);
    const std::unique_ptr<Communicator> bad = MakeNcclCommunicator(world.Split(0, world.rank(), 2), device);
    HostAllocator host;
    const Tensor one = Tensor::Empty({1000}, DType::kF32, host);
    std::fill_n(one.As<float>(), one.size(), 1.0F);
    const Tensor x = Tensor::Empty(one.shape(), DType::kF32, gpu.memory);
    CopyFromHost(one, x, gpu.stream());
    constexpr int kNobody = 7;
    EXPECT_THROW(bad->Broadcast("test.broadcast", x, kNobody, gpu.stream()), Error);
    good->AllReduceSum("test.sum", x, gpu.stream());
    const HostCopy actual(x, gpu.stream());
    EXPECT_EQ(actual.As<float>()[999], 2.0F);
    world.Barrier();
  });
}

// Two groups whose streams of calls know nothing of each other. The first one's collective waits for long work; the
// second one's, asked for later, must not overtake it on any rank.
TEST_P(NcclPair, GroupsRunInTheOrderOfTheirCalls) {
  for (const NcclOrder order : kOrders) {
    if (order == NcclOrder::kByLaunch && NcclOrderHere() != order) {
      continue;  // NCCL before 2.26
    }
    RunRanks(2, [order](Communicator& world) {
      RankGpu gpu(world.rank());
      const GpuStream second(world.rank(), 1);
      const Device device = gpu.stream().device;
      const NcclOptions options = {.order = order};
      const std::unique_ptr<Communicator> a = MakeNcclCommunicator(world.Split(0, world.rank(), 2), device, options);
      const std::unique_ptr<Communicator> b = MakeNcclCommunicator(world.Split(0, world.rank(), 2), device, options);
      const Tensor work = Tensor::Empty({int64_t{64} << 20}, DType::kF32, gpu.memory);
      const Tensor x = Tensor::Empty({1000}, DType::kF32, gpu.memory);
      const Tensor y = Tensor::Empty({1000}, DType::kF32, gpu.memory);
      for (const Tensor* each : {&work, &x, &y}) {
        Zero(*each, gpu.stream());
      }
      a->AllReduceSum("test.warm", x, gpu.stream());  // both groups have connected
      b->AllReduceSum("test.warm", y, gpu.stream());
      Synchronize(gpu.stream());
      world.Barrier();
      Event begin;
      Event worked;
      Event first;
      Event overtaking;
      begin.Record(gpu.stream());
      for (int i = 0; i < 500; ++i) {
        Axpby(0.5, work, 0.5, work, gpu.stream());  // some 100 ms
      }
      worked.Record(gpu.stream());
      a->AllReduceSum("test.first", x, gpu.stream());
      first.Record(gpu.stream());
      b->AllReduceSum("test.second", y, second.stream());
      overtaking.Record(second.stream());
      Synchronize(gpu.stream());
      Synchronize(second.stream());
      EXPECT_GT(worked.MillisecondsSince(begin), 20.0) << "work that is too short shows nothing";
      EXPECT_GT(overtaking.MillisecondsSince(worked), 0.0) << "the second group's sum came first";
      fmt::print("{}: the second sum {:.3f} ms after the work, the first {:.3f} ms\n",
                 order == NcclOrder::kByLaunch ? "by launch" : "one stream",
                 overtaking.MillisecondsSince(worked),
                 first.MillisecondsSince(worked));
      world.Barrier();
    });
  }
}

// Many calls of two groups beside each other and beside work, whose order on the GPU is left to chance by the host's
// pauses: sums are right, and nobody hangs.
TEST_P(NcclPair, GroupsBesideEachOther) {
  for (const NcclOrder order : kOrders) {
    RunRanks(2, [order](Communicator& world) {
      RankGpu gpu(world.rank());
      const Device device = gpu.stream().device;
      const NcclOptions options = {.order = order};
      const std::unique_ptr<Communicator> a = MakeNcclCommunicator(world.Split(0, world.rank(), 2), device, options);
      const std::unique_ptr<Communicator> b = MakeNcclCommunicator(world.Split(0, world.rank(), 2), device, options);
      constexpr int64_t kLarge = int64_t{16} << 20;
      constexpr int64_t kSmall = 4096;
      HostAllocator host;
      const Tensor ones = Tensor::Empty({kLarge}, DType::kF32, host);
      std::fill_n(ones.As<float>(), kLarge, 1.0F);
      const Tensor bucket = Tensor::Empty({kLarge}, DType::kF32, gpu.memory);
      const Tensor rows = Tensor::Empty({kSmall}, DType::kF32, gpu.memory);
      CopyFromHost(ones, bucket, gpu.stream());
      CopyFromHost(ones.view().Rows(0, kSmall), rows, gpu.stream());
      for (int i = 0; i < 200; ++i) {
        a->AllReduceSum("test.bucket", bucket, gpu.stream(), Ordering::kUntilWait);
        for (int j = 0; j < 3; ++j) {
          b->AllReduceSum("test.rows", rows, gpu.stream());
          Axpby(0.5, rows, 0.0, rows, gpu.stream());
        }
        if (i % 7 == 3 * world.rank()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        a->Wait(gpu.stream());
        Axpby(0.5, bucket, 0.0, bucket, gpu.stream());
      }
      EXPECT_EQ(HostCopy(bucket, gpu.stream()).As<float>()[kLarge - 1], 1.0F);
      EXPECT_EQ(HostCopy(rows, gpu.stream()).As<float>()[kSmall - 1], 1.0F);
      world.Barrier();
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Gpus, NcclPair, ::testing::Values(2));

}  // namespace
}  // namespace ksa::testing
