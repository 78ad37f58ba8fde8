// ArenaAllocator: tensors' memory out of a few large slabs, so that a step takes nothing from the system or the driver.
#pragma once

#include <algorithm>
#include <cstdint>
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
  virtual void Give(void* slab, int64_t bytes) noexcept = 0;

  // How large the next slab should be for a request of `bytes`, when an arena holds `reserved` bytes.
  [[nodiscard]] virtual int64_t SlabBytes(int64_t bytes, int64_t /*reserved*/) const {
    return std::max(bytes, kSlabBytes);
  }

  // Whether slabs that nobody needs any more go back before the arena ends. A device's do not: to give memory back
  // waits for everything that is queued there.
  [[nodiscard]] virtual bool takes_back() const { return false; }

  static constexpr int64_t kSlabBytes = int64_t{256} << 20;
};

// Addresses that nothing lies at: for planning. Every slab is as large as one asks.
class ImaginarySlabs final : public SlabSource {
 public:
  explicit ImaginarySlabs(const Device& device) : device_(device) {}

  [[nodiscard]] Device device() const override { return device_; }

  [[nodiscard]] void* Take(int64_t bytes) override;

  void Give(void* /*slab*/, int64_t /*bytes*/) noexcept override {}

 private:
  Device device_;
  int64_t next_ = int64_t{1} << 40;
};

// First fit: by slab, in the order in which slabs were taken, and by address within one, with neighbouring free blocks
// merged. The same requests in the same order get the same offsets, so a slab as large as extent() of a planned run is
// enough for the real one. Free and Allocate are ordered by the one stream that uses the memory: a block may be handed
// out again while kernels that read it are still queued there.
class ArenaAllocator final : public Allocator {
 public:
  // Takes `first_slab` bytes at once (0: at the first request), which it keeps, and more slabs only if they turn out
  // too small. Error(kOutOfMemory) when the source has none. `source` must outlive it.
  explicit ArenaAllocator(SlabSource& source, int64_t first_slab = 0);
  ~ArenaAllocator() override;

  [[nodiscard]] Device device() const override { return source_.device(); }

  [[nodiscard]] void* Allocate(int64_t bytes) override;
  void Free(void* data, int64_t bytes) noexcept override;

  static constexpr int64_t kSlabBytes = SlabSource::kSlabBytes;

  // A slab out of which nothing came while so many times all reserved memory was handed out goes back to a source that
  // takes it. To touch its pages anew later then costs at most that part of the work that was done meanwhile.
  static constexpr int64_t kIdleTurns = 64;

  [[nodiscard]] int64_t reserved_bytes() const override { return reserved_; }

  // End of the highest block ever handed out of the first slab.
  [[nodiscard]] int64_t extent() const { return extent_; }

 private:
  struct Block {
    char* data;
    int64_t bytes;
  };

  struct Slab {
    char* data;
    int64_t bytes;
    int64_t live = 0;      // blocks handed out
    int64_t last_use = 0;  // handed_out_ when the last one was
    // By address, no two that touch, so one more than `live` at most: Allocate makes room for them, and Free needs
    // none.
    std::vector<Block> free;
  };

  Slab& AddSlab(int64_t least, int64_t wanted);
  void GiveBackIdle();

  // A block of `size` out of `slab`, or null when it has none.
  [[nodiscard]] static char* Cut(Slab& slab, int64_t size);

  SlabSource& source_;
  std::vector<Slab> slabs_;
  bool keeps_first_;
  int64_t reserved_ = 0;
  int64_t extent_ = 0;
  int64_t handed_out_ = 0;  // bytes, since the beginning
  int64_t last_sweep_ = 0;  // handed_out_ when idle slabs were last looked for
};

}  // namespace ksa
