// One process without a launcher.
#pragma once

namespace ksa {

// Tells OpenMPI not to look for a way to start processes elsewhere (ssh), which a process that nobody launched as one
// of several does not need, and without which MPI_Init fails. What the environment already says is kept. Before
// MPI_Init.
void PrepareSingleton();

}  // namespace ksa
