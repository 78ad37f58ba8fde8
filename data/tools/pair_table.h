// A hash table from ordered pairs of numbers to positive numbers; holds the pairs that were given to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ksa {

class PairTable {
 public:
  PairTable() : slots_(size_t{1} << 16) {}

  // Adds one to the pair's number.
  void Count(int32_t a, int32_t b) { ++Claim(Key(a, b)).value; }

  // The pair's number; gives it `fresh` (> 0) first where it has none.
  [[nodiscard]] int64_t GetOrSet(int32_t a, int32_t b, int64_t fresh) {
    Slot& slot = Claim(Key(a, b));
    if (slot.value == 0) {
      slot.value = fresh;
    }
    return slot.value;
  }

  // 0: the pair has none.
  [[nodiscard]] int64_t Get(int32_t a, int32_t b) const { return slots_[Find(Key(a, b))].value; }

 private:
  struct Slot {
    uint64_t key = 0;
    int64_t value = 0;  // 0: free
  };

  static uint64_t Key(int32_t a, int32_t b) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32U) | static_cast<uint32_t>(b);
  }

  // The slot of the key, or the free one where it belongs. There always is a free one.
  [[nodiscard]] size_t Find(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 20U) & mask;
    while (slots_[at].value != 0 && slots_[at].key != key) {
      at = (at + 1) & mask;
    }
    return at;
  }

  // The slot of the key, which is the key's from now on: the caller makes its number positive.
  [[nodiscard]] Slot& Claim(uint64_t key) {
    size_t at = Find(key);
    if (slots_[at].value == 0) {
      if ((used_ + 1) * 2 > slots_.size()) {
        Grow();
        at = Find(key);
      }
      slots_[at].key = key;
      ++used_;
    }
    return slots_[at];
  }

  void Grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.value != 0) {
        slots_[Find(slot.key)] = slot;
      }
    }
  }

  std::vector<Slot> slots_;  // a power of two
  size_t used_ = 0;
};

}  // namespace ksa
