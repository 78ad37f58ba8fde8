// HostAllocator: tensors' memory on the host.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/arena.h"

namespace ksa {

// Slabs as pages of the system, which count as memory once they are touched. The first is small, and each later one
// half as large as all before it together: few slabs, and little address space that is not used.
class HostSlabs final : public SlabSource {
 public:
  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Take(int64_t bytes) override;
  void Give(void* slab, int64_t bytes) noexcept override;

  [[nodiscard]] int64_t SlabBytes(int64_t bytes, int64_t reserved) const override;

  [[nodiscard]] bool takes_back() const override { return true; }
};

// An arena over host memory. A build with AddressSanitizer gives every tensor memory of its own instead, as long as the
// tensor to the byte, so that an access outside of it, or after its end, is found.
class HostAllocator final : public Allocator {
 public:
  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Allocate(int64_t bytes) override;
  void Free(void* data, int64_t bytes) noexcept override;

  [[nodiscard]] int64_t reserved_bytes() const override;

 private:
  HostSlabs slabs_;
  ArenaAllocator arena_{slabs_};
};

}  // namespace ksa
