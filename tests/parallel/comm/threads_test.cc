// Ranks as threads: results, orders of additions, and what ranks are told that do not fit together.
#include "parallel/comm/threads.h"

#include <atomic>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/host_allocator.h"
#include "tests/parallel/comm/collectives.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

class ThreadRanks : public ::testing::TestWithParam<int> {};

TEST_P(ThreadRanks, EveryCollective) {
  RunRanks(GetParam(), [](Communicator& world) {
    GuardAllocator memory;
    CheckCollectives(world, {}, memory);
    CheckHostValues(world);
  });
}

TEST_P(ThreadRanks, NestedSplits) {
  RunRanks(GetParam(), [](Communicator& world) {
    GuardAllocator memory;
    CheckSplits(world, {}, memory);
  });
}

// Against the sum made by one loop, in bits.
TEST_P(ThreadRanks, SumsInTheOrderOfTheRanks) {
  const int size = GetParam();
  RunRanks(size, [size](Communicator& world) {
    HostAllocator memory;
    for (const DType dtype : {DType::kF64, DType::kF32}) {
      const int64_t n = int64_t{size} * 1237;
      const auto values = [&](int rank) { return Normal("rank " + std::to_string(rank), {n}, dtype, memory); };
      Tensor expected = values(0);
      for (int rank = 1; rank < size; ++rank) {
        const Tensor x = values(rank);
        DispatchAccumulator(dtype, [&](auto element) {
          for (int64_t i = 0; i < n; ++i) {
            expected.As<decltype(element)>()[i] += x.As<decltype(element)>()[i];
          }
        });
      }
      const Tensor all = values(world.rank());
      world.AllReduceSum("test.sum", all, {});
      ExpectSameBits(all, expected, "all-reduce");
      const Tensor part = values(world.rank());
      world.ReduceScatterSum("test.scatter", part, {});
      ExpectSameBits(part.Rows(world.rank() * 1237, 1237), expected.Rows(world.rank() * 1237, 1237), "reduce-scatter");
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadRanks, ::testing::Range(1, 9));

std::string MessageOf(const std::exception_ptr& error, ExitCode code) {
  if (!error) {
    return "no error";
  }
  try {
    std::rethrow_exception(error);
  } catch (const Error& caught) {
    EXPECT_EQ(caught.code(), code) << caught.what();
    return caught.what();
  } catch (const std::exception& caught) {
    return std::string("another error: ") + caught.what();
  }
}

// `calls[rank]` is what the rank does; every rank is told `parts`.
void ExpectMismatch(const std::vector<std::function<void(Communicator&)>>& calls,
                    const std::vector<std::string>& parts) {
  const std::vector<std::exception_ptr> errors = RunRanksToEnd(
      static_cast<int>(calls.size()), [&](Communicator& world) { calls[static_cast<size_t>(world.rank())](world); });
  for (const std::exception_ptr& error : errors) {
    const std::string message = MessageOf(error, ExitCode::kInternal);
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
    }
  }
}

std::function<void(Communicator&)> Reduce(const char* op, int64_t count, DType dtype = DType::kF32) {
  return [=](Communicator& world) {
    HostAllocator memory;
    world.AllReduceSum(op, Tensor::Zeros({count}, dtype, memory), {});
  };
}

std::function<void(Communicator&)> Scatter(const char* op, int64_t count) {
  return [=](Communicator& world) {
    HostAllocator memory;
    world.ReduceScatterSum(op, Tensor::Zeros({count}, DType::kF32, memory), {});
  };
}

std::function<void(Communicator&)> Send(int peer, int64_t count, const char* op = "halo") {
  return [=](Communicator& world) {
    HostAllocator memory;
    const Tensor x = Tensor::Zeros({count}, DType::kF32, memory);
    const std::vector<Message> messages = {{peer, x}};
    world.Exchange(op, messages, {}, {});
  };
}

std::function<void(Communicator&)> Receive(int peer, int64_t count, const char* op = "halo") {
  return [=](Communicator& world) {
    HostAllocator memory;
    const Tensor x = Tensor::Zeros({count}, DType::kF32, memory);
    const std::vector<Message> messages = {{peer, x}};
    world.Exchange(op, {}, messages, {});
  };
}

TEST(ThreadMismatch, OtherCollective) {
  ExpectMismatch({Reduce("loss", 6), Reduce("loss", 6), Scatter("gradients", 6)},
                 {"'world'",
                  "rank 0 makes all-reduce for 'loss' of 6 fp32",
                  "rank 2 makes reduce-scatter for 'gradients' of 6 fp32"});
}

TEST(ThreadMismatch, OtherOperation) {
  ExpectMismatch({Reduce("loss", 6), Reduce("norm", 6)}, {"rank 0", "'loss'", "rank 1", "'norm'"});
}

TEST(ThreadMismatch, OtherSize) {
  ExpectMismatch({Reduce("loss", 6), Reduce("loss", 7)}, {"6 fp32", "7 fp32"});
}

TEST(ThreadMismatch, OtherType) {
  ExpectMismatch({Reduce("loss", 6), Reduce("loss", 6, DType::kF64)}, {"6 fp32", "6 fp64"});
}

TEST(ThreadMismatch, OtherParts) {
  const auto gather = [](std::vector<int64_t> sizes) {
    return [sizes = std::move(sizes)](Communicator& world) {
      HostAllocator memory;
      world.AllGatherV("rows", Tensor::Zeros({5, 2}, DType::kF32, memory), sizes, {});
    };
  };
  ExpectMismatch({gather({2, 3}), gather({3, 2})}, {"'rows'", "parts of 2, 3", "parts of 3, 2"});
}

TEST(ThreadMismatch, TensorsAgainstHostValues) {
  ExpectMismatch({Reduce("loss", 1), [](Communicator& world) { world.Barrier(); }}, {"all-reduce", "'barrier'"});
}

TEST(ThreadMismatch, InAGroup) {
  const auto calls = [](Communicator& world) {
    const std::unique_ptr<Communicator> group = world.Split(world.rank() / 2, world.rank() % 2, 2);
    group->SetName("tensor");
    Reduce(world.rank() == 3 ? "norm" : "loss", 4)(*group);
  };
  const std::vector<std::exception_ptr> errors = RunRanksToEnd(4, calls);
  EXPECT_FALSE(errors[0] || errors[1]);
  for (const size_t rank : {2, 3}) {
    const std::string message = MessageOf(errors[rank], ExitCode::kInternal);
    EXPECT_NE(message.find("the group 'tensor'"), std::string::npos) << message;
    EXPECT_NE(message.find("'norm'"), std::string::npos) << message;
  }
}

TEST(ThreadMismatch, SizesOfMessages) {
  ExpectMismatch({Send(1, 5), Receive(0, 6)}, {"rank 0 sends 5 fp32", "rank 1 receives 6 fp32"});
}

TEST(ThreadMismatch, OperationsOfMessages) {
  ExpectMismatch({Send(1, 5), Receive(0, 5, "gradients of the halo")}, {"'halo'", "'gradients of the halo'"});
}

TEST(ThreadMismatch, MessageThatNobodySends) {
  ExpectMismatch({Receive(1, 5), Receive(0, 5)},
                 {"none can go on",
                  "rank 0 of all: exchange for 'halo' of 5 fp32",
                  "waiting for a message from rank 0",
                  "rank 1 of all"});
}

TEST(ThreadMismatch, MessageAgainstCollective) {
  ExpectMismatch({Send(1, 5), Reduce("loss", 3)}, {"rank 1 of the group 'world' to take", "all-reduce for 'loss'"});
}

TEST(ThreadMismatch, GroupsWaitForEachOther) {
  // Rank 0 is in the first group's call, rank 1 in the second's: both have two ranks.
  std::atomic<int> told = 0;
  const std::vector<std::exception_ptr> errors = RunRanksToEnd(2, [&](Communicator& world) {
    const std::unique_ptr<Communicator> first = world.Split(0, world.rank(), 2);
    const std::unique_ptr<Communicator> second = world.Split(0, world.rank(), 2);
    Reduce("loss", 3)(world.rank() == 0 ? *first : *second);
    ++told;
  });
  EXPECT_EQ(told, 0);
  for (const std::exception_ptr& error : errors) {
    EXPECT_NE(MessageOf(error, ExitCode::kInternal).find("none can go on"), std::string::npos);
  }
}

TEST(ThreadMismatch, SplitThatDoesNotFit) {
  ExpectMismatch({[](Communicator& world) { (void)world.Split(0, 0, 2); },
                  [](Communicator& world) { (void)world.Split(0, 0, 2); }},
                 {"split of 'world'"});
}

TEST(ThreadLeaves, OthersAreToldWhy) {
  const auto work = [](Communicator& world) {
    const std::unique_ptr<Communicator> group = world.Split(0, world.rank(), 3);
    if (world.rank() == 1) {
      Fail(ExitCode::kDiverged, "the loss is not finite");
    }
    Reduce("loss", 3)(*group);
  };
  const std::vector<std::exception_ptr> errors = RunRanksToEnd(3, work);
  for (const size_t rank : {0, 2}) {
    const std::string message = MessageOf(errors[rank], ExitCode::kPeerLost);
    EXPECT_NE(message.find("rank 1 of all has left: the loss is not finite"), std::string::npos) << message;
  }
  try {
    RunRanks(3, work);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiverged);
  }
}

TEST(ThreadLeaves, AlsoInTheMiddleOfMessages) {
  const std::vector<std::exception_ptr> errors = RunRanksToEnd(3, [](Communicator& world) {
    if (world.rank() == 0) {
      Receive(2, 4)(world);
    } else if (world.rank() == 1) {
      Send(2, 4)(world);
    }  // and rank 2 has nothing to say
  });
  EXPECT_NE(MessageOf(errors[0], ExitCode::kPeerLost).find("rank 2"), std::string::npos);
  EXPECT_NE(MessageOf(errors[1], ExitCode::kPeerLost).find("rank 2"), std::string::npos);
  EXPECT_FALSE(errors[2]);
}

// A rank whose work is done does not end what others say to each other.
TEST(ThreadLeaves, WhoIsNotNeeded) {
  RunRanks(3, [](Communicator& world) {
    for (int i = 0; i < 100 && world.rank() < 2; ++i) {
      if (world.rank() == 0) {
        Send(1, i)(world);
      } else {
        Receive(0, i)(world);
      }
    }
  });
}

TEST(ThreadSums, NotOfOtherTypes) {
  EXPECT_THROW(RunRanks(2, Reduce("loss", 3, DType::kBF16)), Error);
}

}  // namespace
}  // namespace ksa::testing
