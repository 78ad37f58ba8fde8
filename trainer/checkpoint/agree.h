// Work that may fail on some ranks, after which all ranks go on together or fail together.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace ksa {

// Runs `work` on every rank and returns what it returned on each. Where it threw on any rank, every rank throws the
// lowest such rank's error once all are done: nobody waits for a rank that gave up.
std::vector<std::string> OnAllRanks(Communicator& world, const std::function<std::string()>& work);

// The same on rank 0 alone; every rank gets its result.
std::string OnRankZero(Communicator& world, const std::function<std::string()>& work);

}  // namespace ksa
