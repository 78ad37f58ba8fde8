// What commands that mpirun starts share: how an error of one rank ends them all.
#pragma once

#include <functional>
#include <string>

#include "kernels/core/error.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi.h"
#include "trainer/run/watchdog.h"

namespace ksa {

// Prints an error and ends every rank with its code. Errors that all ranks see are printed once: the others wait for
// rank 0 to end the job, and speak only when it does not, because the error is theirs alone. `record` gets what such a
// rank says, for a log.
[[noreturn]] void EndAllRanks(const Error& error,
                              int rank,
                              const std::string& host,
                              const std::function<void(const std::string&)>& record = {});

// What `body` is run with on each rank.
struct RankOfCommand {
  const MpiSession& mpi;
  Communicator& world;
  Watchdog& watchdog;  // for Runtime::SetWatchdog; collectives of `world` and of groups split off it count already
};

// Runs `body` between MPI's begin and end. An error of one rank among several ends all of them, and so does one that
// hangs (KSA_WATCHDOG_SECONDS).
void RunOnRanks(const std::function<void(const RankOfCommand& rank)>& body);

}  // namespace ksa
