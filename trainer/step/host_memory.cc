#include "trainer/step/host_memory.h"

#include <unistd.h>

#include <fstream>
#include <string>

namespace ksa {
namespace {

int64_t StatusBytes(const std::string& wanted) {
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    if (key == wanted) {
      int64_t kib = 0;
      status >> kib;
      return kib * 1024;
    }
    status.ignore(4096, '\n');
  }
  return 0;
}

}  // namespace

int64_t ResidentBytes() {
  return StatusBytes("VmRSS:");
}

int64_t AnonymousBytes() {
  return StatusBytes("RssAnon:");
}

int64_t HostMemoryBytes() {
  return int64_t{1} * sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

}  // namespace ksa
