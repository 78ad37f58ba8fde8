#include "kernels/core/address_space.h"

#include <sys/mman.h>

#include "kernels/core/error.h"

namespace ksa {

void CheckAddressSpace(int64_t bytes, const std::string& who) {
  void* trial =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  if (trial == MAP_FAILED) {
    Fail(ExitCode::kOutOfMemory,
         "out of memory: {} takes {} MiB of address space, and there is not so much left; raise the limit (ulimit -v, "
         "vm.overcommit_memory)",
         who,
         bytes >> 20);
  }
  munmap(trial, static_cast<size_t>(bytes));
}

}  // namespace ksa
