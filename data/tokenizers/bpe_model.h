// Byte-pair encoding of one word: the pair of neighbours with the lowest rank is merged, the leftmost of several, until
// no pair has a rank.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ksa {

// Two neighbouring tokens that may become one.
struct BpeMerge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
  int32_t rank = 0;  // the lowest comes first; merges that make the same token may share one
};

// What a thread that merges works in; used again for the next word.
struct BpeScratch {
  struct Symbol {
    int32_t id = 0;
    int32_t before = -1;  // index of the neighbour, -1: none
    int32_t next = -1;
  };

  std::vector<Symbol> symbols;
  std::vector<uint64_t> candidates;  // a heap of rank << 32 | index of the left symbol
};

class BpeModel {
 public:
  // `byte_ids`: the token of each byte. `merges`: each pair at most once (Contains says whether it is there already).
  explicit BpeModel(const std::array<int32_t, 256>& byte_ids) : byte_ids_(byte_ids) {}

  void Reserve(size_t merges);
  // False when the pair has a merge already; nothing is changed then.
  [[nodiscard]] bool Add(const BpeMerge& merge);

  // Appends the ids of a word. Time is n log n in its bytes. Error kBadData for a word of 2^31 bytes or more.
  void Encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Entry {
    uint64_t pair = kNoPair;
    int32_t rank = 0;
    int32_t merged = 0;
  };

  static constexpr uint64_t kNoPair = UINT64_MAX;

  [[nodiscard]] size_t Slot(uint64_t pair) const;
  [[nodiscard]] const Entry* Find(int32_t left, int32_t right) const;
  void Consider(BpeScratch& scratch, int32_t left) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Entry> table_{16};  // open addressing, at most half full
  size_t count_ = 0;
};

}  // namespace ksa
