#include "trainer/step/cores.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include <sched.h>

#include "kernels/core/threads.h"
#include "trainer/step/control_groups.h"

namespace ksa {
namespace {

std::optional<double> QuotaOfFolder(const std::string& folder, bool version2) {
  double quota = 0.0;
  double period = 0.0;
  if (version2) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max 100000" is no number: stays 0
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;  // -1: none
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0.0 && period > 0.0 ? std::optional(quota / period) : std::nullopt;
}

}  // namespace

std::optional<double> CpuQuota(const std::string& root) {
  return LeastLimit(root, "cpu", QuotaOfFolder);
}

int ShareOf(const HostCores& cores, int local_size) {
  const int ranks = std::max(1, local_size);
  const bool bound = cores.mine < cores.host;
  double share = bound ? cores.mine : cores.mine / ranks;
  if (cores.quota.has_value()) {
    share = std::min(share, std::floor(*cores.quota / ranks));
  }
  return static_cast<int>(std::clamp<double>(share, 1, kMaxThreads));
}

HostCores CoresOfHost() {
  HostCores cores;
  cores.host = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cores.mine = cores.host;
  cores.quota = CpuQuota();
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    cores.mine = CPU_COUNT(&mask);
  }
  return cores;
}

int AvailableCores(int local_size) {
  return ShareOf(CoresOfHost(), local_size);
}

}  // namespace ksa
