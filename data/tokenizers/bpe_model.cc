#include "data/tokenizers/bpe_model.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "kernels/core/error.h"

namespace ksa {
namespace {

uint64_t PairOf(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32U) | static_cast<uint32_t>(right);
}

}  // namespace

// Where the pair is, or where it would be put.
size_t BpeModel::Slot(uint64_t pair) const {
  const size_t mask = table_.size() - 1;
  size_t slot = (pair * 0x9E3779B97F4A7C15U) >> (64U - static_cast<unsigned>(std::countr_zero(table_.size())));
  while (table_[slot].pair != pair && table_[slot].pair != kNoPair) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

const BpeModel::Entry* BpeModel::Find(int32_t left, int32_t right) const {
  const Entry& entry = table_[Slot(PairOf(left, right))];
  return entry.pair == kNoPair ? nullptr : &entry;
}

void BpeModel::Reserve(size_t merges) {
  const size_t size = std::bit_ceil(2 * merges + 2);
  if (size <= table_.size()) {
    return;
  }
  std::vector<Entry> old(size);
  old.swap(table_);
  for (const Entry& entry : old) {
    if (entry.pair != kNoPair) {
      table_[Slot(entry.pair)] = entry;
    }
  }
}

bool BpeModel::Add(const BpeMerge& merge) {
  if (2 * (count_ + 1) > table_.size()) {
    Reserve(2 * count_);
  }
  Entry& entry = table_[Slot(PairOf(merge.left, merge.right))];
  if (entry.pair != kNoPair) {
    return false;
  }
  entry = {PairOf(merge.left, merge.right), merge.rank, merge.merged};
  ++count_;
  return true;
}

// Puts the pair that begins at symbol `left` into the heap, where it has a merge.
void BpeModel::Consider(BpeScratch& scratch, int32_t left) const {
  const BpeScratch::Symbol& symbol = scratch.symbols[static_cast<size_t>(left)];
  const Entry* entry = Find(symbol.id, scratch.symbols[static_cast<size_t>(symbol.next)].id);
  if (entry != nullptr) {
    scratch.candidates.push_back((static_cast<uint64_t>(entry->rank) << 32U) | static_cast<uint32_t>(left));
    std::push_heap(scratch.candidates.begin(), scratch.candidates.end(), std::greater<>());
  }
}

void BpeModel::Encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() >= INT32_MAX) {
    Fail(ExitCode::kBadData, "a word of {} bytes is too long for this tokenizer", word.size());
  }
  if (word.empty()) {
    return;
  }
  std::vector<BpeScratch::Symbol>& symbols = scratch.symbols;
  const auto count = static_cast<int32_t>(word.size());
  symbols.resize(word.size());
  for (int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<size_t>(i)]);
    symbols[static_cast<size_t>(i)] = {byte_ids_[byte], i - 1, i + 1 < count ? i + 1 : -1};
  }
  scratch.candidates.clear();
  for (int32_t i = 0; i + 1 < count; ++i) {
    Consider(scratch, i);
  }
  while (!scratch.candidates.empty()) {
    std::pop_heap(scratch.candidates.begin(), scratch.candidates.end(), std::greater<>());
    const uint64_t candidate = scratch.candidates.back();
    scratch.candidates.pop_back();
    const auto left = static_cast<int32_t>(candidate & UINT32_MAX);
    BpeScratch::Symbol& symbol = symbols[static_cast<size_t>(left)];
    if (symbol.id < 0 || symbol.next < 0) {
      continue;  // it was merged into its neighbour, or is the last one now
    }
    BpeScratch::Symbol& right = symbols[static_cast<size_t>(symbol.next)];
    const Entry* entry = Find(symbol.id, right.id);
    if (entry == nullptr || static_cast<uint64_t>(entry->rank) != candidate >> 32U) {
      continue;  // one of the two is not what it was
    }
    symbol.id = entry->merged;
    symbol.next = right.next;
    right.id = -1;
    if (symbol.next >= 0) {
      symbols[static_cast<size_t>(symbol.next)].before = left;
      Consider(scratch, left);
    }
    if (symbol.before >= 0) {
      Consider(scratch, symbol.before);
    }
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    ids.push_back(symbols[static_cast<size_t>(i)].id);
  }
}

}  // namespace ksa
