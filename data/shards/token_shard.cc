#include "data/shards/token_shard.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include <xxhash.h>

#include "data/files/streamed_hash.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

template <typename T>
void Widen(const std::byte* from, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T token;
    std::memcpy(&token, from + i * sizeof(T), sizeof(T));
    out[i] = static_cast<int32_t>(token);
  }
}

template <typename T>
uint32_t Largest(const std::byte* from, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    T token;
    std::memcpy(&token, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    largest = std::max<uint32_t>(largest, token);
  }
  return largest;
}

}  // namespace

TokenShard::TokenShard(const std::string& path) : file_(path) {
  const TokenFileFrame frame = ReadTokenFileFrame(path, file_.size());
  info_ = frame.info;
  places_ = frame.places;
  token_bytes_ = TokenBytes(info_.vocab_size);
  states_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(BlocksOf(info_.token_count) + 1));
  const std::span<const uint64_t> hashes = block_hashes();
  if (XXH3_64bits(hashes.data(), hashes.size_bytes()) != info_.block_xxh3_xxh3) {
    Fail(ExitCode::kBadData, "{}: /block_xxh3 does not match its hash; the file is damaged", path);
  }
  const std::span<const uint64_t> offsets = document_offsets();
  if (offsets.front() != 0 || offsets.back() != static_cast<uint64_t>(info_.token_count)) {
    Fail(ExitCode::kBadData,
         "{}: /document_offsets runs from {} to {}, not from 0 to the {} tokens; the file is damaged",
         path,
         offsets.front(),
         offsets.back(),
         info_.token_count);
  }
}

void TokenShard::Read(int64_t first, std::span<int32_t> out) const {
  KSA_CHECK(first >= 0 && first + static_cast<int64_t>(out.size()) <= tokens(),
            "tokens [{}, {}) of {} in {}",
            first,
            first + static_cast<int64_t>(out.size()),
            tokens(),
            path());
  const std::byte* from = file_.data() + places_.tokens + first * token_bytes_;
  if (token_bytes_ == 2) {
    Widen<uint16_t>(from, out);
  } else {
    Widen<uint32_t>(from, out);
  }
}

std::span<const uint64_t> TokenShard::document_offsets() const {
  return {reinterpret_cast<const uint64_t*>(file_.data() + places_.document_offsets),
          static_cast<size_t>(info_.document_count + 1)};
}

std::span<const uint64_t> TokenShard::block_hashes() const {
  return {reinterpret_cast<const uint64_t*>(file_.data() + places_.block_xxh3),
          static_cast<size_t>(BlocksOf(info_.token_count))};
}

bool TokenShard::CheckBlock(int64_t block) const {
  const int64_t first = block * kBlockTokens;
  const int64_t count = std::min(kBlockTokens, tokens() - first);
  const std::byte* from = file_.data() + places_.tokens + first * token_bytes_;
  const uint64_t hash = XXH3_64bits(from, static_cast<size_t>(count * token_bytes_));
  if (hash != block_hashes()[static_cast<size_t>(block)]) {
    return false;
  }
  const uint32_t largest = token_bytes_ == 2 ? Largest<uint16_t>(from, count) : Largest<uint32_t>(from, count);
  return largest <= info_.max_token;
}

bool TokenShard::CheckDocumentOffsets() const {
  const std::span<const uint64_t> offsets = document_offsets();
  return XXH3_64bits(offsets.data(), offsets.size_bytes()) == info_.document_offsets_xxh3 &&
         std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>()) == offsets.end();
}

bool TokenShard::BlockIsGood(int64_t block) const {
  std::atomic<uint8_t>& state = states_[static_cast<size_t>(block)];
  if (state.load() == kUnknown) {
    state = CheckBlock(block) ? kGood : kBad;
  }
  return state.load() == kGood;
}

bool TokenShard::DocumentOffsetsAreGood() const {
  std::atomic<uint8_t>& state = states_[static_cast<size_t>(BlocksOf(tokens()))];
  if (state.load() == kUnknown) {
    state = CheckDocumentOffsets() ? kGood : kBad;
  }
  return state.load() == kGood;
}

void TokenShard::Verify() const {
  if (!DocumentOffsetsAreGood()) {
    Fail(ExitCode::kBadData,
         "{}: /document_offsets does not match its hash or does not rise strictly; the file is damaged",
         path());
  }
  uint32_t largest = 0;
  StreamedHash whole;
  for (int64_t block = 0; block < BlocksOf(tokens()); ++block) {
    const int64_t first = block * kBlockTokens;
    const int64_t count = std::min(kBlockTokens, tokens() - first);
    if (!CheckBlock(block)) {
      Fail(ExitCode::kBadData,
           "{}: block {} (tokens {} to {}) does not match its hash or holds a token over {}; the file is damaged",
           path(),
           block,
           first,
           first + count - 1,
           info_.max_token);
    }
    const std::byte* from = file_.data() + places_.tokens + first * token_bytes_;
    whole.Update(from, static_cast<size_t>(count * token_bytes_));
    largest = std::max(largest, token_bytes_ == 2 ? Largest<uint16_t>(from, count) : Largest<uint32_t>(from, count));
    file_.Release(places_.tokens + (first + count) * token_bytes_);
  }
  if (whole.Digest() != info_.tokens_xxh3 || largest != info_.max_token) {
    Fail(ExitCode::kBadData,
         "{}: /tokens does not match its hash, or its largest token {} is not max_token {}; the file is damaged",
         path(),
         largest,
         info_.max_token);
  }
  std::vector<int32_t> last(1);
  for (const uint64_t end : document_offsets().subspan(1)) {
    Read(static_cast<int64_t>(end) - 1, last);
    if (last[0] != info_.eos_id) {
      Fail(ExitCode::kBadData,
           "{}: the document that ends at token {} does not end with the end-of-document token {}",
           path(),
           end,
           info_.eos_id);
    }
  }
}

}  // namespace ksa
