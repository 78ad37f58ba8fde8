// NCCL's make of the communicator: two GPUs of one process, each with a thread of its own.
#include "parallel/comm/nccl.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
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
void RunOnGpus(int size, const Work& work) {
  RunRanks(size, [&](Communicator& world) {
    RankGpu gpu(world.rank());
    const std::unique_ptr<Communicator> group =
        MakeNcclCommunicator(world.Split(0, world.rank(), size), gpu.stream().device);
    work(*group, gpu);
    Synchronize(gpu.stream());
    world.Barrier();  // nobody frees memory while another's kernels may run
  });
}

class Nccl : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotOnGpus(GetParam()); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

TEST_P(Nccl, EveryCollective) {
  RunOnGpus(GetParam(), [](Communicator& group, RankGpu& gpu) {
    CheckCollectives(group, gpu.stream(), gpu.memory);
    CheckHostValues(group);
    PollNcclErrors();
  });
}

TEST_P(Nccl, NestedSplits) {
  RunOnGpus(GetParam(), [](Communicator& group, RankGpu& gpu) { CheckSplits(group, gpu.stream(), gpu.memory); });
}

// Random numbers against the threads' sums in the order of the ranks: of two numbers there is only one sum.
TEST_P(Nccl, SumsAreThoseOfThreads) {
  const int size = GetParam();
  RunRanks(size, [size](Communicator& world) {
    RankGpu gpu(world.rank());
    PoolAllocator host;
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
    PoolAllocator host;
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

INSTANTIATE_TEST_SUITE_P(Gpus, NcclPair, ::testing::Values(2));

}  // namespace
}  // namespace ksa::testing
