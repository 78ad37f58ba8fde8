// The end of a process that may hang: taking down NCCL, MPI or a file system that is gone.
#pragma once

#include "kernels/core/error.h"

namespace ksa {

// The process ends with `code` in so many seconds at the latest, whatever it waits for then. Call it when everything is
// saved and said. Takes SIGALRM.
void EndWithin(unsigned seconds, ExitCode code);

}  // namespace ksa
