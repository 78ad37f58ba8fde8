#include "parallel/comm/launcher.h"

#include <cstdlib>

namespace ksa {

std::optional<LauncherTasks> TasksOfLauncher() {
  // Of mpirun; of the step of SLURM that this process is a task of; of PMI, which srun and other launchers offer.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE"}) {
    const char* value = std::getenv(name);
    const int count = value == nullptr ? 0 : std::atoi(value);
    if (count > 1) {
      return LauncherTasks{name, count};
    }
  }
  return std::nullopt;
}

bool StartedByMpirun() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
}

}  // namespace ksa
