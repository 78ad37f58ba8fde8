#include "kernels/core/host_allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kLeastSlab = int64_t{8} << 20;
constexpr int64_t kSlabStep = int64_t{2} << 20;  // a huge page

}  // namespace

void* HostSlabs::Take(int64_t bytes) {
  void* slab =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  return slab == MAP_FAILED ? nullptr : slab;
}

void HostSlabs::Give(void* slab, int64_t bytes) noexcept {
  munmap(slab, static_cast<size_t>(bytes));
}

int64_t HostSlabs::SlabBytes(int64_t bytes, int64_t reserved) const {
  return (std::max({bytes, kLeastSlab, reserved / 2}) + kSlabStep - 1) / kSlabStep * kSlabStep;
}

#ifdef __SANITIZE_ADDRESS__

void* HostAllocator::Allocate(int64_t bytes) {
  KSA_CHECK(bytes >= 0, "cannot allocate {} bytes", bytes);
  constexpr size_t kAlignment = 64;
  void* data = nullptr;
  if (posix_memalign(&data, kAlignment, static_cast<size_t>(std::max<int64_t>(bytes, 1))) != 0) {
    Fail(ExitCode::kOutOfMemory, "out of memory: {} bytes more on top of {}", bytes, use().current);
  }
  CountTaken(RoundUpAllocation(bytes));
  return data;
}

void HostAllocator::Free(void* data, int64_t bytes) noexcept {
  CountGiven(RoundUpAllocation(bytes));
  std::free(data);  // NOLINT(cppcoreguidelines-no-malloc)
}

int64_t HostAllocator::reserved_bytes() const {
  return use().current;
}

#else

void* HostAllocator::Allocate(int64_t bytes) {
  void* data = arena_.Allocate(bytes);
  CountTaken(RoundUpAllocation(bytes));
  return data;
}

void HostAllocator::Free(void* data, int64_t bytes) noexcept {
  CountGiven(RoundUpAllocation(bytes));
  arena_.Free(data, bytes);
}

int64_t HostAllocator::reserved_bytes() const {
  return arena_.reserved_bytes();
}

#endif

}  // namespace ksa
