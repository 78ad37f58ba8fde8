#include "data/tools/tokenize_state.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/shards/staged_folder.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kFormat = "ksa-tokenize-state";

int64_t Count(const nlohmann::json& json, const char* key) {
  const auto value = json.at(key).get<int64_t>();
  if (value < 0) {
    throw std::invalid_argument(fmt::format("{} is negative", key));
  }
  return value;
}

}  // namespace

std::string SettingsOf(const TokenizeOptions& options,
                       const std::vector<std::string>& files,
                       const Tokenizer& tokenizer) {
  std::string text = fmt::format("{} {} {} {} {} {} {} {}/{} '{}'",
                                 Hex(tokenizer.Xxh3()),
                                 tokenizer.vocab_size(),
                                 static_cast<int>(options.special_tokens),
                                 static_cast<int>(options.encode.documents),
                                 static_cast<int>(options.encode.invalid_utf8),
                                 options.validation_fraction,
                                 options.shards,
                                 options.part.number,
                                 options.part.of,
                                 options.encode.jsonl_field);
  for (const std::string& file : files) {
    text += fmt::format("\n{} {}", file, VersionOf(file));
  }
  return Hex(XXH3_64bits(text.data(), text.size()));
}

void WriteState(const std::string& staging, const TokenizeState& state) {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["version"] = 1;
  json["settings"] = state.settings;
  json["file"] = state.place.file;
  json["begin"] = state.place.begin;
  json["rest"] = state.place.rest;
  json["total"] = state.place.total;
  json["file_place"] = state.place.file_place;
  json["open"] = state.place.open;
  json["parts"] = state.parts;
  json["line"] = state.line;
  json["text_bytes"] = state.text_bytes;
  json["documents"] = state.documents;
  json["shard"] = state.shard;
  json["journal_bytes"] = state.journal_bytes;
  json["train"] = ToJson(state.train);
  WriteFileAtomically(staging + "/" + kUnfinishedFile, json.dump(2) + "\n");
  SyncFolder(staging);
}

TokenizeState ReadState(const std::string& staging, const std::string& settings) {
  const std::string path = staging + "/" + kUnfinishedFile;
  try {
    const nlohmann::json json = ParseJson(ReadSmallFile(path), path);
    if (json.at("format") != kFormat || json.at("version") != 1) {
      throw std::invalid_argument("not a state of version 1");
    }
    TokenizeState state;
    state.settings = json.at("settings").get<std::string>();
    if (state.settings != settings) {
      Fail(
          ExitCode::kBadData,
          "{}: it belongs to other options, another tokenizer, or files that have changed since; repeat the command as "
          "it was, or remove {} and begin anew",
          path,
          staging);
    }
    state.place = {json.at("file").get<size_t>(),
                   Count(json, "begin"),
                   Count(json, "rest"),
                   Count(json, "total"),
                   Count(json, "file_place"),
                   json.at("open").get<bool>()};
    state.parts = Count(json, "parts");
    state.line = Count(json, "line");
    state.text_bytes = Count(json, "text_bytes");
    state.documents = Count(json, "documents");
    state.shard = Count(json, "shard");
    state.journal_bytes = json.at("journal_bytes").get<int64_t>();
    state.train = ParseShardIndex(json.at("train").get<std::string>(), path);
    return state;
  } catch (const nlohmann::json::exception& error) {
    Fail(ExitCode::kBadData, "{}: {}; remove {} and begin anew", path, error.what(), staging);
  } catch (const std::invalid_argument& error) {
    Fail(ExitCode::kBadData, "{}: {}; remove {} and begin anew", path, error.what(), staging);
  }
}

}  // namespace ksa
