#include "trainer/step/cores.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include <sched.h>

#include "kernels/core/threads.h"

namespace ksa {
namespace {

// "cpu" among "cpu,cpuacct".
bool Lists(const std::string& names, const std::string& name) {
  return ("," + names + ",").find("," + name + ",") != std::string::npos;
}

// Where a hierarchy of control groups is mounted, and which of its groups that place shows.
struct Mount {
  std::string place;
  std::string group;
};

// From mountinfo: "36 35 0:30 GROUP PLACE options ... - TYPE source OPTIONS".
std::optional<Mount> FindMount(const std::string& root, bool version2) {
  std::ifstream file(root + "/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) {
      continue;
    }
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string skipped;
    std::string type;
    std::string options;
    Mount mount;
    before >> skipped >> skipped >> skipped >> mount.group >> mount.place;
    after >> type >> skipped >> options;
    if (version2 ? type == "cgroup2" : type == "cgroup" && Lists(options, "cpu")) {
      return mount;
    }
  }
  return std::nullopt;
}

// From /proc/self/cgroup: "0::GROUP" in version 2, "4:cpu,cpuacct:GROUP" in version 1.
std::optional<std::string> FindGroup(const std::string& root, bool version2) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version2 ? controllers.empty() : Lists(controllers, "cpu")) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

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

std::optional<double> Least(const std::optional<double>& a, const std::optional<double>& b) {
  return a.has_value() && b.has_value() ? std::min(*a, *b) : (a.has_value() ? a : b);
}

std::optional<double> QuotaOfHierarchy(const std::string& root, bool version2) {
  const std::optional<Mount> mount = FindMount(root, version2);
  const std::optional<std::string> group = FindGroup(root, version2);
  if (!mount.has_value() || !group.has_value()) {
    return std::nullopt;
  }
  // In a container the place often shows the process's own group, or one whose name is not to be seen from here.
  std::filesystem::path below = std::filesystem::path(*group).lexically_relative(mount->group).lexically_normal();
  if (below.empty() || *below.begin() == "..") {
    below = ".";
  }
  const std::string place = root + mount->place;
  std::optional<double> quota = QuotaOfFolder(place, version2);
  std::string folder = place;
  for (const std::filesystem::path& name : below) {
    folder += "/" + name.string();
    quota = Least(quota, QuotaOfFolder(folder, version2));
  }
  return quota;
}

}  // namespace

std::optional<double> CpuQuota(const std::string& root) {
  return Least(QuotaOfHierarchy(root, true), QuotaOfHierarchy(root, false));
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

int AvailableCores(int local_size) {
  HostCores cores;
  cores.host = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cores.mine = cores.host;
  cores.quota = CpuQuota();
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    cores.mine = CPU_COUNT(&mask);
  }
  return ShareOf(cores, local_size);
}

}  // namespace ksa
