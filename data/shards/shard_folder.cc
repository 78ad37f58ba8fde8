#include "data/shards/shard_folder.h"

#include <climits>
#include <set>
#include <utility>

#include <xxhash.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// The first difference between a shard and what the index says of it; empty when there is none.
std::string Difference(const TokenShard& shard, const ShardEntry& entry, const ShardIndex& index) {
  const ShardEntry found = EntryOf(entry.file, shard.file_bytes(), shard.info());
  const auto number = [](const char* what, int64_t is, int64_t expected) {
    return is == expected ? std::string() : fmt::format("{} is {}, the index says {}", what, is, expected);
  };
  const auto hash = [](const char* what, uint64_t is, uint64_t expected) {
    return is == expected ? std::string() : fmt::format("{} is {}, the index says {}", what, Hex(is), Hex(expected));
  };
  for (const std::string& difference :
       {number("the size in bytes", found.bytes, entry.bytes),
        number("token_count", found.tokens, entry.tokens),
        number("document_count", found.documents, entry.documents),
        number("max_token", found.max_token, entry.max_token),
        number("vocab_size", shard.info().vocab_size, index.vocab_size),
        number("eos_id", shard.info().eos_id, index.eos_id),
        hash("tokens_xxh3", found.tokens_xxh3, entry.tokens_xxh3),
        hash("document_offsets_xxh3", found.document_offsets_xxh3, entry.document_offsets_xxh3),
        hash("block_xxh3_xxh3", found.block_xxh3_xxh3, entry.block_xxh3_xxh3),
        hash("tokenizer_xxh3 (a foreign tokenizer)", shard.info().tokenizer_xxh3, index.tokenizer_xxh3)}) {
    if (!difference.empty()) {
      return difference;
    }
  }
  return {};
}

}  // namespace

void CheckTokenizerFile(const std::string& folder, const ShardIndex& index) {
  const std::string path = folder + "/" + index.tokenizer_file;
  const std::string contents = ReadSmallFile(path);
  const uint64_t hash = XXH3_64bits(contents.data(), contents.size());
  if (hash != index.tokenizer_xxh3) {
    Fail(ExitCode::kBadData,
         "{}: this is not the tokenizer of the shards beside it (its hash is {}, the index says {})",
         path,
         Hex(hash),
         Hex(index.tokenizer_xxh3));
  }
}

TokenShard OpenIndexedShard(const std::string& folder, const ShardIndex& index, const ShardEntry& entry) {
  const std::string file = folder + "/" + entry.file;
  const int64_t bytes =
      IsFile(file) ? FileBytes(file) : entry.bytes;  // what else is there is refused when it is opened
  if (bytes != entry.bytes) {
    Fail(ExitCode::kBadData,
         "{}: {} bytes, the index says {}: the shard was changed or cut short; tokenize or copy it again",
         file,
         bytes,
         entry.bytes);
  }
  TokenShard shard(file);
  const std::string difference = Difference(shard, entry, index);
  if (!difference.empty()) {
    Fail(ExitCode::kBadData, "{}: the shard changed under the index: {}", file, difference);
  }
  return shard;
}

ShardFolder::ShardFolder(const std::string& path) : path_(path), index_(ReadShardIndex(path)) {
  CheckTokenizerFile(path, index_);
  for (const ShardEntry& entry : index_.shards) {
    shards_.push_back(OpenIndexedShard(path, index_, entry));
  }
}

std::string ShardFolder::TokenizerPath() const {
  return path_ + "/" + index_.tokenizer_file;
}

ShardFolderWriter::ShardFolderWriter(const std::string& folder, const std::string& name, const Tokenizer& tokenizer)
    : folder_(folder), name_(name), tokenizer_(tokenizer) {
  constexpr std::string_view kLongest = "-00000-of-00000.h5.tmp";
  if (name.size() + kLongest.size() > NAME_MAX) {
    Fail(ExitCode::kCannotCreate,
         "{}: {} bytes are too long a name for a folder of shards, whose files are called after it; the most are {}",
         name,
         name.size(),
         NAME_MAX - kLongest.size());
  }
  index_.tokenizer = tokenizer.name();
  index_.tokenizer_file = tokenizer.file_name();
  index_.tokenizer_xxh3 = tokenizer.Xxh3();
  index_.vocab_size = tokenizer.vocab_size();
  index_.eos_id = tokenizer.eos_id();
}

ShardWriter& ShardFolderWriter::shard() {
  if (shard_ == nullptr) {
    shard_ = std::make_unique<ShardWriter>(
        folder_, ShardVocabulary{index_.tokenizer, index_.tokenizer_xxh3, index_.vocab_size, index_.eos_id});
  }
  return *shard_;
}

void ShardFolderWriter::EndShard() {
  if (shard_ == nullptr || shard_->documents() == 0) {
    return;
  }
  // How many shards there will be is not known yet: the last part of the name comes in Finish().
  const std::string file = fmt::format("{}-{:05}.h5", name_, index_.shards.size());
  const std::string path = folder_ + "/" + file;
  const TokenFileInfo info = shard_->Finish(path);
  index_.shards.push_back(EntryOf(file, FileBytes(path), info));
  shard_.reset();
}

int64_t ShardFolderWriter::documents() const {
  return index_.documents() + (shard_ == nullptr ? 0 : shard_->documents());
}

void ShardFolderWriter::Adopt(const ShardIndex& index) {
  if (index.tokenizer_xxh3 != index_.tokenizer_xxh3) {
    Fail(ExitCode::kBadData, "{}: its shards were made with another tokenizer", folder_);
  }
  std::set<std::string> known;
  for (const ShardEntry& entry : index.shards) {
    known.insert(entry.file);
  }
  for (const std::string& name : NamesIn(folder_)) {
    // One that was killed while shards got their last names.
    const size_t of = name.find("-of-");
    const std::string before = of == std::string::npos ? std::string() : name.substr(0, of) + ".h5";
    if (known.contains(before)) {
      Rename(folder_ + "/" + name, folder_ + "/" + before);
    } else if (!known.contains(name)) {
      RemoveAll(folder_ + "/" + name);
    }
  }
  for (const ShardEntry& entry : index.shards) {
    static_cast<void>(OpenIndexedShard(folder_, index, entry));
  }
  index_.shards = index.shards;
}

ShardIndex ShardFolderWriter::Finish() {
  EndShard();
  if (index_.shards.empty()) {
    Fail(ExitCode::kBadData, "there is no document to write to {}", name_);
  }
  for (size_t i = 0; i < index_.shards.size(); ++i) {
    ShardEntry& entry = index_.shards[i];
    const std::string file = fmt::format("{}-{:05}-of-{:05}.h5", name_, i, index_.shards.size());
    Rename(folder_ + "/" + entry.file, folder_ + "/" + file);
    entry.file = file;
  }
  WriteFileAtomically(folder_ + "/" + tokenizer_.file_name(), tokenizer_.file_contents());
  WriteFileAtomically(folder_ + "/" + kIndexFile, ToJson(index_));
  SyncFolder(folder_);
  return index_;
}

}  // namespace ksa
