#include "trainer/step/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

#include "trainer/step/control_groups.h"

namespace ksa {
namespace {

// The number after `wanted` at the beginning of a line.
std::optional<int64_t> NumberIn(const std::string& path, const std::string& wanted) {
  std::ifstream file(path);
  std::string key;
  while (file >> key) {
    int64_t value = 0;
    if (key == wanted && file >> value) {
      return value;
    }
    file.clear();
    file.ignore(4096, '\n');
  }
  return std::nullopt;
}

int64_t StatusBytes(const std::string& wanted) {
  return NumberIn("/proc/self/status", wanted).value_or(0) * 1024;
}

// What a control group still allows. Pages of files count as taken there, but go when they are in the way.
std::optional<double> LeftInGroup(const std::string& folder, bool version2) {
  double limit = 0.0;
  double taken = 0.0;
  std::ifstream(folder + (version2 ? "/memory.max" : "/memory.limit_in_bytes")) >> limit;  // "max" is no number
  std::ifstream(folder + (version2 ? "/memory.current" : "/memory.usage_in_bytes")) >> taken;
  if (limit <= 0.0) {
    return std::nullopt;
  }
  const auto of_files = NumberIn(folder + "/memory.stat", version2 ? "file" : "total_cache").value_or(0);
  return std::max(0.0, limit - std::max(0.0, taken - static_cast<double>(of_files)));
}

}  // namespace

int64_t ResidentBytes() {
  return StatusBytes("VmRSS:");
}

int64_t PeakResidentBytes() {
  return StatusBytes("VmHWM:");
}

bool ResetPeakResident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5";
  file.flush();
  return file.good();
}

int64_t AnonymousBytes() {
  return StatusBytes("RssAnon:");
}

int64_t HostMemoryBytes() {
  return int64_t{1} * sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

int64_t FreeHostBytes(const std::string& root) {
  const std::optional<int64_t> kib = NumberIn(root + "/proc/meminfo", "MemAvailable:");
  const int64_t host = kib ? *kib * 1024 : HostMemoryBytes();
  const std::optional<double> group = LeastLimit(root, "memory", LeftInGroup);
  // Version 1 says "no limit" as a number near 2^63.
  return group && *group < static_cast<double>(host) ? static_cast<int64_t>(*group) : host;
}

}  // namespace ksa
