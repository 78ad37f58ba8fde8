// What `ksa doctor` looks at: one answer a question, and the functions that ask.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ksa {

enum class Health : int {
  kGood,
  kWarning,  // works, but slower or with less than there could be, or breaks in some runs
  kFault,    // stops a run
};

struct HealthCheck {
  std::string name;
  Health health = Health::kGood;
  std::string detail;  // what is there
  std::string cure;    // how to mend it; empty where there is nothing to mend
};

// "good", "warning", "fault".
[[nodiscard]] const char* NameOf(Health health);

// --- limits of this process (getrlimit); none: unlimited

struct ProcessLimits {
  std::optional<int64_t> files;          // open descriptors
  std::optional<int64_t> address_space;  // bytes
  std::optional<int64_t> file_size;      // bytes
  std::optional<int64_t> stack;          // bytes
  std::optional<int64_t> locked_memory;  // bytes
  bool has_infiniband = false;           // there is a device that needs locked memory
};

[[nodiscard]] ProcessLimits LimitsHere();
[[nodiscard]] HealthCheck JudgeLimits(const ProcessLimits& limits);

// --- cores, memory, shared memory

struct CoreFacts {
  int host = 1;                 // of the host
  int mine = 1;                 // in this process's affinity mask
  std::optional<double> quota;  // of its control groups
  int ranks = 1;                // of this job on this host
  bool by_mpirun = false;
};

[[nodiscard]] CoreFacts CoresHere(int local_ranks, bool by_mpirun);
[[nodiscard]] HealthCheck JudgeCores(const CoreFacts& facts);

// Starts as many threads as a rank would.
[[nodiscard]] HealthCheck CheckThreads(int count);

[[nodiscard]] HealthCheck CheckMemory();

struct SharedMemoryFacts {
  bool there = false;
  bool writable = false;
  int64_t total = 0;  // bytes
  int64_t free = 0;
  int gpus = 0;
};

[[nodiscard]] SharedMemoryFacts SharedMemoryAt(const std::string& folder, int gpus);
[[nodiscard]] HealthCheck JudgeSharedMemory(const SharedMemoryFacts& facts);

// --- a folder that runs, checkpoints or shards lie in

// The disk of `folder`, which is made if it is missing and then removed again: room, kind of file system.
[[nodiscard]] HealthCheck CheckDisk(const std::string& folder);
// What checkpoints and locks ask of it: files that are flushed, names that are replaced, exchanged and made once.
[[nodiscard]] HealthCheck CheckFileSystem(const std::string& folder);
// flock(2), which ksa itself does without.
[[nodiscard]] HealthCheck CheckFlock(const std::string& folder);
// A checkpoint's file, written and read back.
[[nodiscard]] HealthCheck CheckHdf5(const std::string& folder);

// --- libraries

// GPUs that this program sees, and that the driver has.
[[nodiscard]] HealthCheck CheckGpus();
[[nodiscard]] HealthCheck CheckNccl(int gpus);

// One rank alone, then two under mpirun that exchange data (`ksa bench comm`), with a limit of time; in processes of
// their own. `program`: the path of ksa. Call while no other thread runs.
[[nodiscard]] HealthCheck CheckMpi(const std::string& program);
// What a sandbox may forbid: reading another rank's memory, by which ranks of a host exchange data.
[[nodiscard]] HealthCheck CheckRankMemory();

}  // namespace ksa
