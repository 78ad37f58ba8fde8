// What the environment says about who started this process.
#pragma once

#include <optional>
#include <string>

namespace ksa {

// Several tasks that a launcher started beside this one.
struct LauncherTasks {
  std::string variable;  // that says so
  int count = 0;
};

// The tasks of the launcher that started this process, mpirun or another; none where it started this one alone. SLURM's
// SLURM_NTASKS is no such word: it is the allocation's, which the script of a batch job has as well, and that runs
// once.
[[nodiscard]] std::optional<LauncherTasks> TasksOfLauncher();

// Whether mpirun started this process. Its own single rank is meant so.
[[nodiscard]] bool StartedByMpirun();

}  // namespace ksa
