#include "tests/parallel/mpi_main.h"

#include <gtest/gtest.h>

#include "parallel/comm/mpi.h"

namespace ksa::testing {

std::unique_ptr<Communicator> world;

}  // namespace ksa::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const ksa::MpiSession session;
  ksa::testing::world = session.World();
  const int result = RUN_ALL_TESTS();
  ksa::testing::world.reset();
  return result;
}
