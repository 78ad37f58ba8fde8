// What a run has settled of its tasks' pools stays, though the length of the run may change.
#pragma once

#include "parallel/comm/communicator.h"
#include "trainer/config/config.h"

namespace ksa {

// Where pool_samples follows the run's length (TaskSpec::pool_follows), takes what the run folder's configuration has
// for the same task. Every rank calls it and gets the same.
void KeepPools(Config& config, Communicator& world);

}  // namespace ksa
