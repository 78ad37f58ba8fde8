// The ids of words that were seen lately. Few words make up most of a text, and merging is what costs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace ksa {

// One place for each word, found by its hash; a new word takes the place of the old one. For one thread.
class WordCache {
 public:
  static constexpr size_t kMostBytes = 38;  // longer words are seldom the same
  static constexpr size_t kMostIds = 6;

  struct alignas(64) Entry {  // a line of the processor's cache
    char word[kMostBytes];
    uint8_t bytes = 0;  // 0: nothing here
    uint8_t count = 0;
    int32_t ids[kMostIds];
  };

  // The place of a word of 1 … kMostBytes bytes.
  [[nodiscard]] Entry& Place(std::string_view word) { return entries_[Hash(word) >> (64U - kEntryBits)]; }

  [[nodiscard]] static bool Holds(const Entry& entry, std::string_view word) {
    return entry.bytes == word.size() && std::memcmp(entry.word, word.data(), word.size()) == 0;
  }

  static void Put(Entry& entry, std::string_view word, std::span<const int32_t> ids) {
    if (ids.size() > kMostIds) {
      return;
    }
    std::memcpy(entry.word, word.data(), word.size());
    std::memcpy(entry.ids, ids.data(), ids.size_bytes());
    entry.bytes = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(ids.size());
  }

 private:
  static constexpr unsigned kEntryBits = 15;

  // Good enough to spread words, and inline: a call would cost as much as what it saves.
  [[nodiscard]] static uint64_t Hash(std::string_view word) {
    constexpr uint64_t kFactor = 0x9E3779B97F4A7C15U;
    uint64_t hash = word.size() * kFactor;
    const char* at = word.data();
    size_t left = word.size();
    uint64_t bits = 0;
    for (; left >= sizeof(bits); left -= sizeof(bits), at += sizeof(bits)) {
      std::memcpy(&bits, at, sizeof(bits));
      hash = Mix(hash ^ bits) * kFactor;
    }
    bits = 0;
    std::memcpy(&bits, at, left);
    return Mix(hash ^ bits) * kFactor;
  }

  [[nodiscard]] static uint64_t Mix(uint64_t bits) { return bits ^ (bits >> 29U) ^ (bits << 17U); }

  std::vector<Entry> entries_{size_t{1} << kEntryBits};
};

}  // namespace ksa
