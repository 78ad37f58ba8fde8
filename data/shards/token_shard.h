// One token shard, mapped for reading.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "data/shards/mapped_file.h"
#include "data/shards/token_file.h"

namespace ksa {

class TokenShard {
 public:
  // Opens and checks the frame, the first and last document offset and the hash of the block hashes. Touches no token.
  // Error kMissingInput, kBadData, kIo.
  explicit TokenShard(const std::string& path);

  [[nodiscard]] const std::string& path() const { return file_.path(); }

  [[nodiscard]] const TokenFileInfo& info() const { return info_; }

  [[nodiscard]] int64_t file_bytes() const { return file_.size(); }

  [[nodiscard]] int64_t tokens() const { return info_.token_count; }

  [[nodiscard]] int64_t documents() const { return info_.document_count; }

  // Copies tokens [first, first + out.size()).
  void Read(int64_t first, std::span<int32_t> out) const;

  // [documents + 1]: document d is tokens [offsets[d], offsets[d + 1]). Trust them only after DocumentOffsetsAreGood().
  [[nodiscard]] std::span<const uint64_t> document_offsets() const;

  // Tokens that are checked at once: those of a leaf, or of a block where the shard, an old one, has no leaf hashes.
  [[nodiscard]] int64_t check_tokens() const { return places_.leaf_xxh3 > 0 ? kLeafTokens : kBlockTokens; }

  // Whether tokens [index · check_tokens(), …) match their hash and none is over max_token. Computed at the first call
  // for an index, remembered after. Thread-safe.
  [[nodiscard]] bool IsGood(int64_t index) const;

  // Whether the offsets match their hash and rise strictly from 0 to the number of tokens. As IsGood.
  [[nodiscard]] bool DocumentOffsetsAreGood() const;

  // Bytes that IsGood and DocumentOffsetsAreGood have read to check them.
  [[nodiscard]] int64_t checked_bytes() const { return checked_bytes_->load(); }

  // Checks everything. Error kBadData naming the first thing that is wrong.
  void Verify() const;

  // Drops the pages read so far from memory (they can be read again).
  void Release() const { file_.Release(file_.size()); }

 private:
  enum State : uint8_t { kUnknown, kGood, kBad };

  // A dataset of u64.
  [[nodiscard]] std::span<const uint64_t> Numbers(int64_t place, int64_t count) const;
  [[nodiscard]] std::span<const uint64_t> block_hashes() const;
  [[nodiscard]] std::span<const uint64_t> leaf_hashes() const;
  // Whether tokens [index · size, …) match their hash, of `hashes`, and none is over max_token.
  [[nodiscard]] bool CheckTokens(int64_t index, int64_t size, std::span<const uint64_t> hashes) const;
  [[nodiscard]] bool CheckDocumentOffsets() const;
  void VerifyTokens() const;
  void VerifyFrame() const;

  MappedFile file_;
  TokenFileInfo info_;
  TokenFilePlaces places_;
  int64_t token_bytes_;
  std::unique_ptr<std::atomic<uint8_t>[]> states_;  // State of each index of IsGood, then that of the document offsets
  std::unique_ptr<std::atomic<int64_t>> checked_bytes_ = std::make_unique<std::atomic<int64_t>>(0);
};

}  // namespace ksa
