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
  const int64_t checks = (info_.token_count + check_tokens() - 1) / check_tokens();
  states_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(checks + 1));
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
  return Numbers(places_.document_offsets, info_.document_count + 1);
}

std::span<const uint64_t> TokenShard::Numbers(int64_t place, int64_t count) const {
  return {reinterpret_cast<const uint64_t*>(file_.data() + place), static_cast<size_t>(count)};
}

std::span<const uint64_t> TokenShard::block_hashes() const {
  return Numbers(places_.block_xxh3, BlocksOf(info_.token_count));
}

std::span<const uint64_t> TokenShard::leaf_hashes() const {
  return places_.leaf_xxh3 == 0 ? std::span<const uint64_t>() : Numbers(places_.leaf_xxh3, LeavesOf(info_.token_count));
}

bool TokenShard::CheckTokens(int64_t index, int64_t size, std::span<const uint64_t> hashes) const {
  const int64_t first = index * size;
  const int64_t count = std::min(size, tokens() - first);
  const std::byte* from = file_.data() + places_.tokens + first * token_bytes_;
  const uint64_t hash = XXH3_64bits(from, static_cast<size_t>(count * token_bytes_));
  if (hash != hashes[static_cast<size_t>(index)]) {
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

bool TokenShard::IsGood(int64_t index) const {
  std::atomic<uint8_t>& state = states_[static_cast<size_t>(index)];
  if (state.load() == kUnknown) {
    // The hash of a leaf is not itself checked before: a damaged one is a difference all the same.
    const bool leaves = places_.leaf_xxh3 > 0;
    state = CheckTokens(index, check_tokens(), leaves ? leaf_hashes() : block_hashes()) ? kGood : kBad;
    *checked_bytes_ += std::min(check_tokens(), tokens() - index * check_tokens()) * token_bytes_;
  }
  return state.load() == kGood;
}

bool TokenShard::DocumentOffsetsAreGood() const {
  std::atomic<uint8_t>& state = states_[static_cast<size_t>((tokens() + check_tokens() - 1) / check_tokens())];
  if (state.load() == kUnknown) {
    state = CheckDocumentOffsets() ? kGood : kBad;
    *checked_bytes_ += static_cast<int64_t>(document_offsets().size_bytes());
  }
  return state.load() == kGood;
}

void TokenShard::VerifyFrame() const {
  if (places_.leaf_xxh3 > 0) {
    const std::span<const uint64_t> hashes = leaf_hashes();
    if (XXH3_64bits(hashes.data(), hashes.size_bytes()) != info_.leaf_xxh3_xxh3) {
      Fail(ExitCode::kBadData, "{}: /leaf_xxh3 does not match its hash; the file is damaged", path());
    }
  }
  if (places_.frame_xxh3 > 0 && Numbers(places_.frame_xxh3, 1)[0] != FrameXxh3(path(), info_, places_)) {
    Fail(ExitCode::kBadData,
         "{}: the bytes outside of its datasets do not match /frame_xxh3; the file is damaged (its tokens are not)",
         path());
  }
}

void TokenShard::Verify() const {
  if (!DocumentOffsetsAreGood()) {
    Fail(ExitCode::kBadData,
         "{}: /document_offsets does not match its hash or does not rise strictly; the file is damaged",
         path());
  }
  VerifyTokens();
  VerifyFrame();
}

void TokenShard::VerifyTokens() const {
  uint32_t largest = 0;
  StreamedHash whole;
  for (int64_t block = 0; block < BlocksOf(tokens()); ++block) {
    const int64_t first = block * kBlockTokens;
    const int64_t count = std::min(kBlockTokens, tokens() - first);
    if (!CheckTokens(block, kBlockTokens, block_hashes())) {
      Fail(ExitCode::kBadData,
           "{}: block {} (tokens {} to {}) does not match its hash or holds a token over {}; the file is damaged",
           path(),
           block,
           first,
           first + count - 1,
           info_.max_token);
    }
    const std::byte* from = file_.data() + places_.tokens + first * token_bytes_;
    for (int64_t leaf = first / kLeafTokens; !leaf_hashes().empty() && leaf < LeavesOf(first + count); ++leaf) {
      if (!CheckTokens(leaf, kLeafTokens, leaf_hashes())) {
        Fail(ExitCode::kBadData, "{}: entry {} of /leaf_xxh3 is wrong; the file is damaged", path(), leaf);
      }
    }
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
