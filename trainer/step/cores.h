// How many cores this rank may use.
#pragma once

#include <optional>
#include <string>

namespace ksa {

// What there is on a host.
struct HostCores {
  int host = 1;                 // of the host
  int mine = 1;                 // in this process's affinity mask
  std::optional<double> quota;  // CpuQuota()
};

[[nodiscard]] HostCores CoresOfHost();

// The cores in this process's affinity mask; where the launcher did not bind ranks to cores of their own, its share of
// them among the `local_size` ranks of this host. Never more than its share of the quota, rounded down: a thread beyond
// it would only make the others wait. At least 1, at most kMaxThreads.
[[nodiscard]] int ShareOf(const HostCores& cores, int local_size);
[[nodiscard]] int AvailableCores(int local_size);  // ShareOf what this host has

// Processor time that this process's control groups allow, in cores: the least of its own group and those above it, of
// both versions of control groups. None: as much as there is. Files are read under `root`.
[[nodiscard]] std::optional<double> CpuQuota(const std::string& root = "");

}  // namespace ksa
