// Who started this process, from the environment.
#include "parallel/comm/launcher.h"

#include <cstdlib>
#include <map>
#include <string>

#include <gtest/gtest.h>

namespace ksa {
namespace {

using Variables = std::map<std::string, std::string>;

// The variables of launchers with these values alone. Afterwards none is set.
class Environment {
 public:
  explicit Environment(const Variables& values) {
    Clear();
    for (const auto& [name, value] : values) {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }

  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  ~Environment() { Clear(); }

 private:
  static void Clear() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE",
                             "SLURM_STEP_NUM_TASKS",
                             "SLURM_STEP_ID",
                             "SLURM_NTASKS",
                             "SLURM_JOB_ID",
                             "PMI_SIZE"}) {
      unsetenv(name);
    }
  }
};

int TasksWith(const Variables& values) {
  const Environment environment(values);
  const std::optional<LauncherTasks> tasks = TasksOfLauncher();
  return tasks.has_value() ? tasks->count : 1;
}

TEST(LauncherTest, ABatchScriptRunsOnce) {
  EXPECT_EQ(TasksWith({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}}), 1);
  EXPECT_EQ(TasksWith({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}, {"SLURM_STEP_ID", "4294967291"}}), 1);
  // The shell of salloc, where it is a step of its own; srun of one task.
  EXPECT_EQ(TasksWith({{"SLURM_NTASKS", "8"}, {"SLURM_STEP_ID", "4294967290"}, {"SLURM_STEP_NUM_TASKS", "1"}}), 1);
  EXPECT_EQ(TasksWith({}), 1);
  EXPECT_EQ(TasksWith({{"SLURM_STEP_NUM_TASKS", ""}, {"PMI_SIZE", "x"}}), 1);
}

TEST(LauncherTest, TasksOfAStepRunSeveralTimes) {
  EXPECT_EQ(TasksWith({{"SLURM_NTASKS", "8"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}}), 4);
  EXPECT_EQ(TasksWith({{"PMI_SIZE", "2"}}), 2);
  EXPECT_EQ(TasksWith({{"OMPI_COMM_WORLD_SIZE", "3"}}), 3);
}

TEST(LauncherTest, MpirunIsKnown) {
  {
    const Environment environment(Variables{{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_STEP_NUM_TASKS", "8"}});
    EXPECT_TRUE(StartedByMpirun());
  }
  const Environment environment(Variables{{"SLURM_STEP_NUM_TASKS", "8"}});
  EXPECT_FALSE(StartedByMpirun());
}

}  // namespace
}  // namespace ksa
