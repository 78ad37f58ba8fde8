// A folder of token shards: index.json, the shards and the tokenizer's file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/shards/shard_index.h"
#include "data/shards/shard_writer.h"
#include "data/shards/token_shard.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {

// Of a folder: their names number them with five digits.
inline constexpr int kMostShards = 99999;

// Error kBadData when the folder's tokenizer file is not the one that its shards were made with, kMissingInput, kIo.
void CheckTokenizerFile(const std::string& folder, const ShardIndex& index);

// Opens one shard of a folder and compares it with what the index says of it. Errors as ShardFolder.
[[nodiscard]] TokenShard OpenIndexedShard(const std::string& folder, const ShardIndex& index, const ShardEntry& entry);

// An opened folder. Every shard was compared with the index, and the tokenizer's file with its hash.
class ShardFolder {
 public:
  // Error kMissingInput, kBadData (damaged, or changed under the index), kIo.
  explicit ShardFolder(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] const ShardIndex& index() const { return index_; }

  [[nodiscard]] const std::vector<TokenShard>& shards() const { return shards_; }

  [[nodiscard]] std::string TokenizerPath() const;

 private:
  std::string path_;
  ShardIndex index_;
  std::vector<TokenShard> shards_;
};

// Writes the files of a shard folder into a folder that exists already; making that folder appear whole is the caller's
// business (StagedFolder).
class ShardFolderWriter {
 public:
  // Shards are called `NAME-00000-of-00008.h5`. Error kCannotCreate when that is too long for a file's name.
  ShardFolderWriter(const std::string& folder, const std::string& name, const Tokenizer& tokenizer);

  // The shard that documents go to, begun when there is none.
  [[nodiscard]] ShardWriter& shard();
  // Ends the current shard; the next document begins another. Does nothing when the current one holds no document.
  void EndShard();

  [[nodiscard]] int64_t documents() const;

  // The shards that are whole; their files' names lack their last part until Finish.
  [[nodiscard]] const ShardIndex& index() const { return index_; }

  // Goes on behind the shards of `index`, which an earlier writer of this folder left whole; whatever else lies there
  // is removed. Errors as OpenIndexedShard; kBadData: of another tokenizer.
  void Adopt(const ShardIndex& index);

  // Ends the last shard, writes the tokenizer's file and the index. Error kBadData when there was no document.
  ShardIndex Finish();

 private:
  std::string folder_;
  std::string name_;
  const Tokenizer& tokenizer_;
  ShardIndex index_;
  std::unique_ptr<ShardWriter> shard_;
};

}  // namespace ksa
