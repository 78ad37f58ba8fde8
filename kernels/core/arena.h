// ArenaAllocator: tensors' memory out of a few large slabs, so that a step takes nothing from the driver.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "kernels/core/allocator.h"

namespace ksa {

// Where slabs come from.
class SlabSource {
 public:
  SlabSource() = default;
  SlabSource(const SlabSource&) = delete;
  SlabSource& operator=(const SlabSource&) = delete;
  virtual ~SlabSource() = default;

  [[nodiscard]] virtual Device device() const = 0;
  [[nodiscard]] virtual void* Take(int64_t bytes) = 0;  // 512-byte aligned; null when there is none left
  virtual void Give(void* slab) noexcept = 0;
};

// Addresses that nothing lies at: for planning. Every slab is as large as one asks.
class ImaginarySlabs final : public SlabSource {
 public:
  explicit ImaginarySlabs(const Device& device) : device_(device) {}

  [[nodiscard]] Device device() const override { return device_; }

  [[nodiscard]] void* Take(int64_t bytes) override;

  void Give(void* /*slab*/) noexcept override {}

 private:
  Device device_;
  int64_t next_ = int64_t{1} << 40;
};

// First fit by address, with neighbouring free blocks merged: the same requests in the same order get the same offsets,
// so a slab as large as extent() of a planned run is enough for the real one. Free and Allocate are ordered by the one
// stream that uses the memory: a block may be handed out again while kernels that read it are still queued there.
class ArenaAllocator final : public Allocator {
 public:
  // Takes `first_slab` bytes at once (0: at the first request), and more slabs, of kSlabBytes or what a request needs,
  // only if they turn out too small. Error(kOutOfMemory) when the source has none. `source` must outlive it.
  explicit ArenaAllocator(SlabSource& source, int64_t first_slab = 0);
  ~ArenaAllocator() override;

  [[nodiscard]] Device device() const override { return source_.device(); }

  [[nodiscard]] void* Allocate(int64_t bytes) override;
  void Free(void* data, int64_t bytes) noexcept override;

  static constexpr int64_t kSlabBytes = int64_t{256} << 20;

  [[nodiscard]] int64_t reserved_bytes() const override { return reserved_; }

  // End of the highest block ever handed out of the first slab.
  [[nodiscard]] int64_t extent() const { return extent_; }

 private:
  void AddSlab(int64_t bytes);

  SlabSource& source_;
  std::vector<char*> slabs_;
  int64_t first_slab_ = 0;
  std::map<char*, int64_t> free_;  // block -> bytes
  int64_t reserved_ = 0;
  int64_t extent_ = 0;
};

}  // namespace ksa
