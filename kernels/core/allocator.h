// Memory for tensors.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

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

// Keeps freed blocks in bins of their exact size (rounded up to 512 bytes) and hands them out again: a training step
// repeats its sizes, so after the first step nothing is taken from the system. `reserved_bytes` is what was taken.
class PoolAllocator : public Allocator {
 public:
  PoolAllocator() = default;
  ~PoolAllocator() override;

  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Allocate(int64_t bytes) override;
  void Free(void* data, int64_t bytes) noexcept override;

  [[nodiscard]] int64_t reserved_bytes() const override { return reserved_; }

 private:
  std::unordered_map<int64_t, std::vector<void*>> bins_;  // by rounded size
  int64_t reserved_ = 0;
};

}  // namespace ksa
