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

  // Whether a block of tokens matches its hash and holds no token over max_token. Computed at the first call for a
  // block, remembered after. Thread-safe.
  [[nodiscard]] bool BlockIsGood(int64_t block) const;

  // Whether the offsets match their hash and rise strictly from 0 to the number of tokens. As BlockIsGood.
  [[nodiscard]] bool DocumentOffsetsAreGood() const;

  // Checks everything. Error kBadData naming the first thing that is wrong.
  void Verify() const;

  // Drops the pages read so far from memory (they can be read again).
  void Release() const { file_.Release(file_.size()); }

 private:
  enum State : uint8_t { kUnknown, kGood, kBad };

  [[nodiscard]] std::span<const uint64_t> block_hashes() const;
  [[nodiscard]] bool CheckBlock(int64_t block) const;
  [[nodiscard]] bool CheckDocumentOffsets() const;

  MappedFile file_;
  TokenFileInfo info_;
  TokenFilePlaces places_;
  int64_t token_bytes_;
  std::unique_ptr<std::atomic<uint8_t>[]> states_;  // State of each block, then that of the document offsets
};

}  // namespace ksa
