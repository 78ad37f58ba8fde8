// Started by mpirun with any number of ranks: every collective of MPI's make.
#include <gtest/gtest.h>

#include "kernels/core/host_allocator.h"
#include "tests/parallel/comm/collectives.h"
#include "tests/parallel/mpi_main.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

TEST(Mpi, EveryCollective) {
  GuardAllocator memory;
  CheckCollectives(*world, {}, memory);
  CheckHostValues(*world);
}

TEST(Mpi, NestedSplits) {
  GuardAllocator memory;
  CheckSplits(*world, {}, memory);
}

// To oneself, and around a ring. Longer ones than expected to oneself alone: between ranks that is MPI's own error,
// after which OpenMPI's ranks may wait for each other for ever; a run ends there.
TEST(Mpi, MessagesOfOtherSizes) {
  HostAllocator memory;
  const int size = world->size();
  for (const int step : {0, 1}) {
    for (const int64_t sent : {3, 5}) {
      if (sent > 4 && step > 0) {
        continue;
      }
      const Tensor x = Tensor::Zeros({5}, DType::kF32, memory);
      const std::vector<Message> messages = {{(world->rank() + step) % size, x.Rows(0, sent)}};
      const std::vector<Message> expected = {{(world->rank() + size - step) % size, x.Rows(0, 4)}};
      EXPECT_THROW(world->Exchange("halo", messages, expected, {}), Error) << "step " << step << ", " << sent;
    }
  }
}

}  // namespace
}  // namespace ksa::testing
