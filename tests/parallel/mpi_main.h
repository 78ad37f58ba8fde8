// The main() of tests that mpirun starts.
#pragma once

#include <memory>

#include "parallel/comm/communicator.h"

namespace ksa::testing {

// All ranks that mpirun started; set before the first test and until the last one has run.
extern std::unique_ptr<Communicator> world;

}  // namespace ksa::testing
