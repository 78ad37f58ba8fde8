// The HDF5 side of a token shard: writes its frame (datasets without contents, attributes) and reads it back. The
// contents themselves are written and read at the datasets' offsets, without HDF5. Format: docs/data.md.
#pragma once

#include <cstdint>
#include <string>

namespace ksa {

inline constexpr int64_t kBlockTokens = int64_t{1} << 20;  // tokens that one entry of /block_xxh3 covers
inline constexpr int64_t kLeafTokens = int64_t{1} << 13;   // tokens that one entry of /leaf_xxh3 covers

[[nodiscard]] inline int64_t BlocksOf(int64_t tokens) {
  return (tokens + kBlockTokens - 1) / kBlockTokens;
}

[[nodiscard]] inline int64_t LeavesOf(int64_t tokens) {
  return (tokens + kLeafTokens - 1) / kLeafTokens;
}

// Bytes a token takes in a shard of this vocabulary: 2, or 4 over 65536.
[[nodiscard]] inline int TokenBytes(int64_t vocab_size) {
  return vocab_size > 65536 ? 4 : 2;
}

// The attributes of a shard.
struct TokenFileInfo {
  int64_t vocab_size = 0;
  int64_t max_token = 0;
  int64_t eos_id = 0;
  int64_t token_count = 0;
  int64_t document_count = 0;
  std::string tokenizer;
  uint64_t tokenizer_xxh3 = 0;
  uint64_t tokens_xxh3 = 0;
  uint64_t document_offsets_xxh3 = 0;
  uint64_t block_xxh3_xxh3 = 0;
  uint64_t leaf_xxh3_xxh3 = 0;  // 0 in a shard without leaf hashes

  friend bool operator==(const TokenFileInfo&, const TokenFileInfo&) = default;
};

// Byte offsets of the datasets in the file.
struct TokenFilePlaces {
  int64_t tokens = 0;            // u16 or u32 [token_count]
  int64_t document_offsets = 0;  // u64 [document_count + 1]
  int64_t block_xxh3 = 0;        // u64 [BlocksOf(token_count)]
  int64_t leaf_xxh3 = 0;         // u64 [LeavesOf(token_count)]; 0: the shard, an old one, has none
  int64_t frame_xxh3 = 0;        // u64 [1], XXH3-64 of all bytes outside of datasets; 0: the shard has none
};

// Creates the file with all attributes and with datasets whose contents are still to be written. Takes no lock: not
// every file system has them, and nobody else knows the file yet. Error kCannotCreate, kIo.
[[nodiscard]] TokenFilePlaces WriteTokenFileFrame(const std::string& path, const TokenFileInfo& info);

// XXH3-64 of all bytes of the file outside of its datasets.
[[nodiscard]] uint64_t FrameXxh3(const std::string& path, const TokenFileInfo& info, const TokenFilePlaces& places);

struct TokenFileFrame {
  TokenFileInfo info;
  TokenFilePlaces places;
};

// Reads and checks the frame: format, version, every attribute, and that each dataset is a hard-linked, contiguous,
// unfiltered, internally stored vector of the expected type and length, aligned, inside a file of `file_bytes` bytes.
// Error kBadData otherwise, kMissingInput when there is no file.
[[nodiscard]] TokenFileFrame ReadTokenFileFrame(const std::string& path, int64_t file_bytes);

}  // namespace ksa
