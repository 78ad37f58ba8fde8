// index.json of a shard folder: what its shards hold, so that a shard that changed underneath is noticed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/shards/token_file.h"

namespace ksa {

struct ShardEntry {
  std::string file;  // name inside the folder
  int64_t bytes = 0;
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t max_token = 0;
  uint64_t tokens_xxh3 = 0;
  uint64_t document_offsets_xxh3 = 0;
  uint64_t block_xxh3_xxh3 = 0;
};

struct ShardIndex {
  std::string tokenizer;       // its name
  std::string tokenizer_file;  // name inside the folder
  uint64_t tokenizer_xxh3 = 0;
  int64_t vocab_size = 0;
  int64_t eos_id = 0;
  std::vector<ShardEntry> shards;

  [[nodiscard]] int64_t tokens() const;
  [[nodiscard]] int64_t documents() const;
};

inline constexpr const char* kIndexFile = "index.json";

[[nodiscard]] std::string Hex(uint64_t value);  // 16 hexadecimal digits

[[nodiscard]] ShardEntry EntryOf(const std::string& file, int64_t bytes, const TokenFileInfo& info);

[[nodiscard]] std::string ToJson(const ShardIndex& index);

// The contrary. Error kBadData naming `path`.
[[nodiscard]] ShardIndex ParseShardIndex(const std::string& text, const std::string& path);

// Error kMissingInput: no folder, or no index in it; kIo: it cannot be read; kBadData: not an index that this program
// wrote.
[[nodiscard]] ShardIndex ReadShardIndex(const std::string& folder);

// The shard folders that a path stands for: itself, or its parts train and validation where it holds these instead of
// an index. Error kMissingInput, kIo.
[[nodiscard]] std::vector<std::string> ShardFoldersIn(const std::string& path);

}  // namespace ksa
