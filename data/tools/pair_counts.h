// How often each ordered pair of tokens was seen: a hash table that holds the pairs that occurred.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ksa {

class PairCounts {
 public:
  PairCounts() : slots_(size_t{1} << 16) {}

  void Add(int32_t a, int32_t b) {
    Slot& slot = slots_[Find(Key(a, b))];
    if (slot.count == 0) {
      slot.key = Key(a, b);
      ++used_;
    }
    ++slot.count;
    if (used_ * 2 > slots_.size()) {
      Grow();
    }
  }

  [[nodiscard]] int64_t Count(int32_t a, int32_t b) const { return slots_[Find(Key(a, b))].count; }

 private:
  struct Slot {
    uint64_t key = 0;
    int64_t count = 0;  // 0: free
  };

  static uint64_t Key(int32_t a, int32_t b) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32U) | static_cast<uint32_t>(b);
  }

  // The slot of the key, or the free one where it belongs. There always is a free one.
  [[nodiscard]] size_t Find(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 20U) & mask;
    while (slots_[at].count != 0 && slots_[at].key != key) {
      at = (at + 1) & mask;
    }
    return at;
  }

  void Grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.count != 0) {
        slots_[Find(slot.key)] = slot;
      }
    }
  }

  std::vector<Slot> slots_;  // a power of two
  size_t used_ = 0;
};

}  // namespace ksa
