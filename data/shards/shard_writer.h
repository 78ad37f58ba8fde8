// Writes one token shard as its tokens come; memory does not grow with their number.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/files/posix_file.h"
#include "data/files/streamed_hash.h"
#include "data/shards/token_file.h"

namespace ksa {

// What all shards of a folder have in common.
struct ShardVocabulary {
  std::string tokenizer;
  uint64_t tokenizer_xxh3 = 0;
  int64_t vocab_size = 0;
  int64_t eos_id = 0;
};

// A shard's size is known only at its end, while HDF5 wants it at the beginning: tokens and offsets are spooled to
// unnamed files in the same folder, and Finish() copies them into the HDF5 file.
class ShardWriter {
 public:
  // Error kCannotCreate when `folder` cannot be written.
  ShardWriter(const std::string& folder, const ShardVocabulary& vocabulary);

  // Tokens of the current document, its eos included. Error kBadData for an id outside the vocabulary.
  void Append(std::span<const int32_t> tokens);
  // Ends the current document, which must not be empty.
  void EndDocument();

  [[nodiscard]] int64_t tokens() const { return info_.token_count; }

  [[nodiscard]] int64_t documents() const { return info_.document_count; }

  // Writes `path` (under a temporary name, flushed, then renamed). Error kBadData when there is no document, kIo.
  // The writer is spent afterwards.
  [[nodiscard]] TokenFileInfo Finish(const std::string& path);

 private:
  // The hashes of every so many tokens.
  struct ChunkHashes {
    explicit ChunkHashes(int64_t chunk_tokens) : tokens(chunk_tokens) {}

    void Add(std::span<const std::byte> bytes, size_t width);
    void Finish();

    int64_t tokens;    // of a chunk
    int64_t fill = 0;  // tokens in `current`
    StreamedHash current;
    std::vector<uint64_t> hashes;
  };

  void FlushTokens();
  void FlushOffsets();

  TokenFileInfo info_;
  int token_bytes_;
  File token_spool_;
  File offset_spool_;
  std::vector<std::byte> token_buffer_;  // narrowed tokens, a whole number of them
  size_t buffered_ = 0;                  // bytes of token_buffer_ in use
  std::vector<uint64_t> offset_buffer_;
  ChunkHashes blocks_{kBlockTokens};
  ChunkHashes leaves_{kLeafTokens};
  int64_t document_begin_ = 0;
  StreamedHash tokens_hash_;
  StreamedHash offsets_hash_;
};

}  // namespace ksa
