#include "trainer/step/cores.h"

#include <unistd.h>

#include <algorithm>

#include <sched.h>

namespace ksa {

int AvailableCores(int local_size) {
  const int host = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int mine = host;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    mine = CPU_COUNT(&mask);
  }
  const bool bound = mine < host;
  return std::max(1, bound ? mine : mine / std::max(1, local_size));
}

}  // namespace ksa
