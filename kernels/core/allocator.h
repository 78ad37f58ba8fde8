// Memory for tensors.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"

namespace ksa {

// Bytes handed out: now, and at the worst moment.
struct MemoryUse {
  int64_t current = 0;
  int64_t peak = 0;
};

// Not thread-safe: one allocator belongs to one rank.
class Allocator {
 public:
  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  virtual ~Allocator() = default;

  [[nodiscard]] virtual Device device() const = 0;
  // 64-byte aligned on the host, 512 on a device; contents undefined.
  [[nodiscard]] virtual void* Allocate(int64_t bytes) = 0;
  virtual void Free(void* data, int64_t bytes) noexcept = 0;

  // Taken from the system or the driver.
  [[nodiscard]] virtual int64_t reserved_bytes() const { return use_.current; }

  [[nodiscard]] const MemoryUse& use() const { return use_; }

  void ResetPeak() { use_.peak = use_.current; }

 protected:
  void CountTaken(int64_t bytes) {
    use_.current += bytes;
    use_.peak = use_.peak < use_.current ? use_.current : use_.peak;
  }

  void CountGiven(int64_t bytes) { use_.current -= bytes; }

 private:
  MemoryUse use_;
};

// Allocators hand out whole multiples of 512 bytes.
[[nodiscard]] constexpr int64_t RoundUpAllocation(int64_t bytes) {
  return bytes <= 0 ? 512 : (bytes + 511) / 512 * 512;
}

}  // namespace ksa
