#include "data/shards/shard_index.h"

#include <charconv>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kFormat = "ksa-token-index";

uint64_t FromHex(const nlohmann::json& json, const char* key) {
  const std::string text = json.at(key).get<std::string>();
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size()) {
    throw std::invalid_argument(fmt::format("{} = '{}' is not 16 hexadecimal digits", key, text));
  }
  return value;
}

int64_t Count(const nlohmann::json& json, const char* key) {
  const nlohmann::json& value = json.at(key);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{1} << 60U) {
    throw std::invalid_argument(fmt::format("{} is not a count", key));
  }
  return value.get<int64_t>();
}

// A plain file name: nothing that leads out of the folder.
std::string FileName(const nlohmann::json& json, const char* key) {
  std::string name = json.at(key).get<std::string>();
  if (name.empty() || name.starts_with(".") || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    throw std::invalid_argument(fmt::format("{} = '{}' is not a plain file name", key, name));
  }
  return name;
}

// The file is copied under its name into run folders, where other names mean something else.
std::string TokenizerFile(const nlohmann::json& json, const char* key) {
  std::string name = FileName(json, key);
  if (!IsTokenizerFile(name)) {
    throw std::invalid_argument(
        fmt::format("{} = '{}' is no name of a tokenizer's file ({})", key, name, fmt::join(kTokenizerFiles, ", ")));
  }
  return name;
}

ShardIndex FromJson(const nlohmann::json& json) {
  if (json.at("format") != kFormat || json.at("version") != 1) {
    throw std::invalid_argument("not a token index of version 1");
  }
  ShardIndex index;
  const nlohmann::json& tokenizer = json.at("tokenizer");
  index.tokenizer = tokenizer.at("name").get<std::string>();
  index.tokenizer_file = TokenizerFile(tokenizer, "file");
  index.tokenizer_xxh3 = FromHex(tokenizer, "xxh3");
  index.vocab_size = Count(json, "vocab_size");
  index.eos_id = Count(json, "eos_id");
  for (const nlohmann::json& shard : json.at("shards")) {
    ShardEntry entry;
    entry.file = FileName(shard, "file");
    entry.bytes = Count(shard, "bytes");
    entry.tokens = Count(shard, "tokens");
    entry.documents = Count(shard, "documents");
    entry.max_token = Count(shard, "max_token");
    entry.tokens_xxh3 = FromHex(shard, "tokens_xxh3");
    entry.document_offsets_xxh3 = FromHex(shard, "document_offsets_xxh3");
    entry.block_xxh3_xxh3 = FromHex(shard, "block_xxh3_xxh3");
    index.shards.push_back(entry);
  }
  if (index.shards.empty()) {
    throw std::invalid_argument("it names no shard");
  }
  if (index.tokens() != Count(json, "token_count") || index.documents() != Count(json, "document_count")) {
    throw std::invalid_argument("its counts are not the sums of its shards' counts");
  }
  return index;
}

}  // namespace

int64_t ShardIndex::tokens() const {
  int64_t sum = 0;
  for (const ShardEntry& shard : shards) {
    sum += shard.tokens;
  }
  return sum;
}

int64_t ShardIndex::documents() const {
  int64_t sum = 0;
  for (const ShardEntry& shard : shards) {
    sum += shard.documents;
  }
  return sum;
}

std::string Hex(uint64_t value) {
  return fmt::format("{:016x}", value);
}

ShardEntry EntryOf(const std::string& file, int64_t bytes, const TokenFileInfo& info) {
  return {file,
          bytes,
          info.token_count,
          info.document_count,
          info.max_token,
          info.tokens_xxh3,
          info.document_offsets_xxh3,
          info.block_xxh3_xxh3};
}

std::string ToJson(const ShardIndex& index) {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["version"] = 1;
  json["tokenizer"]["name"] = index.tokenizer;
  json["tokenizer"]["file"] = index.tokenizer_file;
  json["tokenizer"]["xxh3"] = Hex(index.tokenizer_xxh3);
  json["vocab_size"] = index.vocab_size;
  json["eos_id"] = index.eos_id;
  json["token_count"] = index.tokens();
  json["document_count"] = index.documents();
  for (const ShardEntry& entry : index.shards) {
    nlohmann::ordered_json shard;
    shard["file"] = entry.file;
    shard["bytes"] = entry.bytes;
    shard["tokens"] = entry.tokens;
    shard["documents"] = entry.documents;
    shard["max_token"] = entry.max_token;
    shard["tokens_xxh3"] = Hex(entry.tokens_xxh3);
    shard["document_offsets_xxh3"] = Hex(entry.document_offsets_xxh3);
    shard["block_xxh3_xxh3"] = Hex(entry.block_xxh3_xxh3);
    json["shards"].push_back(std::move(shard));
  }
  // A tokenizer's name may be any bytes (that of its file); what is not UTF-8 in it becomes U+FFFD.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

ShardIndex ReadShardIndex(const std::string& folder) {
  const std::string path = folder + "/" + kIndexFile;
  if (const PathKind kind = KindOf(folder); kind != PathKind::kFolder) {
    Fail(ExitCode::kMissingInput,
         "{}: no folder of token shards ({} is there); `ksa data tokenize --input TEXT --output DIR` makes one of text",
         folder,
         NameOf(kind));
  }
  if (!Exists(path)) {
    Fail(ExitCode::kMissingInput, "{}: no such file, so that {} is not a folder of token shards", path, folder);
  }
  return ParseShardIndex(ReadSmallFile(path), path);
}

ShardIndex ParseShardIndex(const std::string& text, const std::string& path) {
  try {
    return FromJson(ParseJson(text, path));
  } catch (const nlohmann::json::exception& error) {
    Fail(ExitCode::kBadData, "{}: {}", path, error.what());
  } catch (const std::invalid_argument& error) {
    Fail(ExitCode::kBadData, "{}: {}", path, error.what());
  }
}

std::vector<std::string> ShardFoldersIn(const std::string& path) {
  if (!Exists(path + "/" + kIndexFile) && IsFolder(path + "/train")) {
    return {path + "/train", path + "/validation"};
  }
  return {path};
}

}  // namespace ksa
