// MPI: the process group of `mpirun`. MPI itself is named in mpi.cc alone.
#pragma once

#include <memory>
#include <string>

#include "kernels/core/error.h"
#include "parallel/comm/communicator.h"

namespace ksa {

// MPI_Init when constructed, MPI_Finalize when destroyed. One per process. A process that was not started by mpirun is
// a world of one. Throws Error(kConfig) when a launcher started several tasks but MPI sees one (SLURM without PMIx),
// and when MPI does not allow other threads beside the one that calls it.
class MpiSession {
 public:
  MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession();

  // A communicator over all ranks; valid while the session lives.
  [[nodiscard]] std::unique_ptr<Communicator> World() const;

  // Ranks of the world on this host, and this rank's number among them.
  [[nodiscard]] int local_size() const { return local_size_; }

  [[nodiscard]] int local_rank() const { return local_rank_; }

  // Of the host that this rank runs on.
  [[nodiscard]] static std::string HostName();

  // Ends every rank of the job with `code`; does not return. For errors that only some ranks see.
  [[noreturn]] static void Abort(ExitCode code);

 private:
  int local_size_ = 1;
  int local_rank_ = 0;
};

}  // namespace ksa
