#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <future>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/ranges.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "trainer/doctor/health_check.h"
#include "trainer/observe/log_line.h"
#include "trainer/step/cores.h"
#include "trainer/step/host_memory.h"

namespace ksa {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

// Open MPI ends with a message of its own below about two dozen; a rank keeps its shards and sockets open, too.
constexpr int64_t kFewestFiles = 64;
constexpr int64_t kManyFiles = 1024;
// What MPI and BLAS map before anything is computed (kernels/core/address_space.h asks for it).
constexpr int64_t kLeastAddressSpace = kGiB;
constexpr int64_t kLeastFileSize = 64 * kMiB;
constexpr int64_t kLeastStack = kMiB;

std::optional<int64_t> LimitOf(__rlimit_resource resource) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return static_cast<int64_t>(limit.rlim_cur);
}

std::string TextOf(const std::optional<int64_t>& bytes) {
  return bytes ? FormatBytes(*bytes) : "unlimited";
}

// One limit that is too small.
struct Finding {
  Health health = Health::kGood;
  std::string cure;
};

// Adds a finding where a limit is below `least` (a fault) or below `enough` (a warning).
void Compare(const std::optional<int64_t>& limit,
             int64_t least,
             int64_t enough,
             const std::string& cure,
             std::vector<Finding>& findings) {
  if (limit && *limit < enough) {
    findings.push_back({*limit < least ? Health::kFault : Health::kWarning, cure});
  }
}

HealthCheck Summed(HealthCheck check, const std::vector<Finding>& findings) {
  std::vector<std::string> cures;
  for (const Finding& finding : findings) {
    check.health = std::max(check.health, finding.health);
    cures.push_back(finding.cure);
  }
  check.cure = fmt::format("{}", fmt::join(cures, "; "));
  return check;
}

}  // namespace

const char* NameOf(Health health) {
  constexpr std::array<const char*, 3> kNames = {"good", "warning", "fault"};
  return kNames.at(static_cast<size_t>(health));
}

ProcessLimits LimitsHere() {
  return {.files = LimitOf(RLIMIT_NOFILE),
          .address_space = LimitOf(RLIMIT_AS),
          .file_size = LimitOf(RLIMIT_FSIZE),
          .stack = LimitOf(RLIMIT_STACK),
          .locked_memory = LimitOf(RLIMIT_MEMLOCK),
          .has_infiniband = Exists("/sys/class/infiniband") && !NamesIn("/sys/class/infiniband").empty()};
}

HealthCheck JudgeLimits(const ProcessLimits& limits) {
  std::vector<Finding> findings;
  Compare(limits.files,
          kFewestFiles,
          kManyFiles,
          fmt::format("raise the limit on open files (ulimit -n {}): MPI and shards need descriptors", kManyFiles),
          findings);
  Compare(limits.address_space,
          kLeastAddressSpace,
          INT64_MAX,
          "lift the limit on address space (ulimit -v unlimited): mapped shards and libraries count, however little of "
          "them is in memory",
          findings);
  Compare(limits.file_size,
          kLeastFileSize,
          INT64_MAX,
          "lift the limit on the size of files (ulimit -f unlimited): a rank's part of a checkpoint is one file",
          findings);
  Compare(limits.stack, kLeastStack, 2 * kMiB, "raise the limit on the stack (ulimit -s 8192)", findings);
  if (limits.has_infiniband) {
    Compare(limits.locked_memory,
            0,
            kGiB,
            "lift the limit on locked memory (ulimit -l unlimited; in a container --ulimit memlock=-1): InfiniBand "
            "registers what it sends",
            findings);
  }
  return Summed({.name = "limits",
                 .health = Health::kGood,
                 .detail = fmt::format("open files {}, address space {}, size of a file {}, stack {}, locked memory {}",
                                       limits.files ? std::to_string(*limits.files) : "unlimited",
                                       TextOf(limits.address_space),
                                       TextOf(limits.file_size),
                                       TextOf(limits.stack),
                                       TextOf(limits.locked_memory)),
                 .cure = ""},
                findings);
}

CoreFacts CoresHere(int local_ranks, bool by_mpirun) {
  const HostCores cores = CoresOfHost();
  return {.host = cores.host, .mine = cores.mine, .quota = cores.quota, .ranks = local_ranks, .by_mpirun = by_mpirun};
}

HealthCheck JudgeCores(const CoreFacts& facts) {
  std::vector<Finding> findings;
  const int share = ShareOf({.host = facts.host, .mine = facts.mine, .quota = facts.quota}, facts.ranks);
  if (facts.by_mpirun && facts.mine < facts.host / facts.ranks) {
    findings.push_back({Health::kWarning,
                        fmt::format("mpirun binds a rank to {} of {} cores; use launch/mpirun.sh, or mpirun --bind-to "
                                    "none",
                                    facts.mine,
                                    facts.host)});
  }
  if (!facts.by_mpirun && facts.mine < facts.host) {
    findings.push_back({Health::kWarning,
                        fmt::format("this process may use {} of {} cores: if that is not meant, look at taskset, "
                                    "--cpus-per-task or the container's cpuset",
                                    facts.mine,
                                    facts.host)});
  }
  if (facts.quota && *facts.quota < facts.ranks) {
    findings.push_back({Health::kWarning,
                        fmt::format("the control group allows {:.1f} cores for {} rank(s): give the container more "
                                    "(--cpus), or start fewer ranks",
                                    *facts.quota,
                                    facts.ranks)});
  }
  return Summed({.name = "cores",
                 .health = Health::kGood,
                 .detail = fmt::format("{} on this host, {} for this process{}; {} thread{} a rank",
                                       facts.host,
                                       facts.mine,
                                       facts.quota ? fmt::format(", {:.1f} by its control group", *facts.quota) : "",
                                       share,
                                       share == 1 ? "" : "s"),
                 .cure = ""},
                findings);
}

HealthCheck CheckThreads(int count) {
  HealthCheck check = {
      .name = "threads", .health = Health::kGood, .detail = fmt::format("{} can be started", count), .cure = ""};
  std::promise<void> all_started;
  const std::shared_future<void> go = all_started.get_future().share();
  std::vector<std::thread> threads;
  try {
    for (int i = 0; i < count; ++i) {
      threads.emplace_back([go] { go.wait(); });
    }
  } catch (const std::system_error& error) {
    check.health = Health::kFault;
    check.detail = fmt::format("{} of {} can be started: {}", threads.size(), count, error.what());
    check.cure = "raise the limit on processes and threads (ulimit -u, pids.max of the container) or set run.threads";
  }
  all_started.set_value();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return check;
}

HealthCheck CheckMemory() {
  const int64_t total = HostMemoryBytes();
  const int64_t free = FreeHostBytes();
  HealthCheck check = {
      .name = "memory",
      .health = Health::kGood,
      .detail = fmt::format("{} on this host, {} free for this process", FormatBytes(total), FormatBytes(free)),
      .cure = ""};
  if (free < kGiB) {
    check.health = Health::kWarning;
    check.cure = "end what takes the memory, or give the container more (--memory)";
  }
  return check;
}

SharedMemoryFacts SharedMemoryAt(const std::string& folder, int gpus) {
  SharedMemoryFacts facts;
  facts.gpus = gpus;

  struct statvfs room {};

  facts.there = IsFolder(folder) && statvfs(folder.c_str(), &room) == 0;
  if (facts.there) {
    facts.writable = access(folder.c_str(), W_OK | X_OK) == 0;
    facts.total = static_cast<int64_t>(room.f_frsize * room.f_blocks);
    facts.free = static_cast<int64_t>(room.f_frsize * room.f_bavail);
  }
  return facts;
}

HealthCheck JudgeSharedMemory(const SharedMemoryFacts& facts) {
  // Open MPI takes 4 MiB a rank of it, NCCL some 10 MiB for each pair of GPUs that have no link.
  constexpr int64_t kLeast = 16 * kMiB;
  const int64_t enough = facts.gpus > 1 ? kGiB : 64 * kMiB;
  HealthCheck check = {
      .name = "shared memory",
      .health = Health::kGood,
      .detail = fmt::format("/dev/shm: {} of {} free", FormatBytes(facts.free), FormatBytes(facts.total)),
      .cure = ""};
  if (!facts.there || !facts.writable) {
    check.health = Health::kFault;
    check.detail = facts.there ? "/dev/shm cannot be written to" : "there is no /dev/shm";
    check.cure = "mount it (mount -t tmpfs tmpfs /dev/shm): MPI's ranks of one host and NCCL exchange data through it";
  } else if (facts.free < enough) {
    check.health = facts.free < kLeast ? Health::kFault : Health::kWarning;
    check.cure =
        "make it larger (docker run --shm-size 8g, or mount -o remount,size=8G /dev/shm), and remove what dead "
        "jobs left in it";
  }
  return check;
}

}  // namespace ksa
