// What commands that mpirun starts share: how an error of one rank ends them all.
#pragma once

#include <functional>
#include <string>

#include "kernels/core/error.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi.h"

namespace ksa {

// Prints an error and ends every rank with its code. Errors that all ranks see are printed once: the others wait for
// rank 0 to end the job, and speak only when it does not, because the error is theirs alone.
[[noreturn]] void EndAllRanks(const Error& error, int rank, const std::string& host);

// Runs `body` between MPI's begin and end. An error of one rank among several ends all of them.
void RunOnRanks(const std::function<void(const MpiSession& mpi, Communicator& world)>& body);

}  // namespace ksa
