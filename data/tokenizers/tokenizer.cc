#include "data/tokenizers/tokenizer.h"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tokenizers/bpe_tokenizer.h"
#include "data/tokenizers/hugging_face.h"
#include "data/tokenizers/tiktoken_file.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kBytes = 256;

// The small file that describes a tokenizer without a model of its own.
std::string Descriptor(const std::string& type, const std::string& name, int64_t vocab_size, int64_t eos_id) {
  nlohmann::ordered_json json;
  json["format"] = "ksa-tokenizer";
  json["version"] = 1;
  json["type"] = type;
  json["name"] = name;
  json["vocab_size"] = vocab_size;
  json["eos_id"] = eos_id;
  return json.dump(2) + "\n";
}

class ByteTokenizer : public Tokenizer {
 public:
  void Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const size_t begin = ids.size();
    ids.resize(begin + text.size());
    int32_t* to = ids.data() + begin;
    for (size_t i = 0; i < text.size(); ++i) {
      to[i] = static_cast<unsigned char>(text[i]);
    }
  }

  [[nodiscard]] std::string Decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id > kBytes) {
        Fail(ExitCode::kBadData, "token {} is outside the byte vocabulary of {}", id, kBytes + 1);
      }
      if (id < kBytes) {
        text.push_back(static_cast<char>(id));
      }
    }
    return text;
  }

  [[nodiscard]] bool CutsAnywhere() const override { return true; }

  [[nodiscard]] int64_t vocab_size() const override { return kBytes + 1; }

  [[nodiscard]] int64_t eos_id() const override { return kBytes; }

  [[nodiscard]] std::string name() const override { return "byte"; }

  [[nodiscard]] const std::string& file_contents() const override { return contents_; }

  [[nodiscard]] std::string file_name() const override { return "tokenizer.json"; }

 private:
  std::string contents_ = Descriptor("byte", "byte", kBytes + 1, kBytes);
};

class ExternalTokenizer : public Tokenizer {
 public:
  ExternalTokenizer(const std::string& name, int64_t vocab_size, int64_t eos_id)
      : name_(name),
        vocab_size_(vocab_size),
        eos_id_(eos_id),
        contents_(Descriptor("external", name, vocab_size, eos_id)) {}

  void Encode(std::string_view, std::vector<int32_t>&) const override {
    Fail(ExitCode::kBadData,
         "these tokens were imported without their tokenizer '{}': no text can be turned into them here",
         name_);
  }

  [[nodiscard]] std::string Decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      text += fmt::format("{} ", id);
    }
    return text;
  }

  [[nodiscard]] bool CutsAnywhere() const override { return true; }

  [[nodiscard]] bool SpellsText() const override { return false; }

  [[nodiscard]] int64_t vocab_size() const override { return vocab_size_; }

  [[nodiscard]] int64_t eos_id() const override { return eos_id_; }

  [[nodiscard]] std::string name() const override { return name_; }

  [[nodiscard]] const std::string& file_contents() const override { return contents_; }

  [[nodiscard]] std::string file_name() const override { return "tokenizer.json"; }

 private:
  std::string name_;
  int64_t vocab_size_;
  int64_t eos_id_;
  std::string contents_;
};

std::string NameFromPath(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// Our description of a tokenizer.
std::unique_ptr<Tokenizer> FromDescriptor(const std::string& path, std::string contents, const nlohmann::json& json) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (json.value("version", 0) != 1) {
    Fail(ExitCode::kBadData, "{}: not a tokenizer description of version 1", path);
  }
  if (json.value("type", "") == "byte") {
    tokenizer = MakeByteTokenizer();
  } else if (json.value("type", "") == "external") {
    tokenizer = MakeExternalTokenizer(
        json.value("name", ""), json.value("vocab_size", int64_t{0}), json.value("eos_id", int64_t{0}));
  }
  if (tokenizer == nullptr || tokenizer->file_contents() != contents) {
    Fail(ExitCode::kBadData, "{}: this tokenizer description was edited or is of an unknown type", path);
  }
  return tokenizer;
}

constexpr const char* kFormat = "ksa-tokenizer";
constexpr const char* kHuggingFace = "hugging-face";

// A tokenizer.json that does not tell by itself which token ends a document, with that token around it.
std::string WithEos(const std::string& contents, const std::string& eos) {
  return fmt::format(
      "{{\"format\": \"{}\", \"version\": 1, \"type\": \"{}\", \"eos_token\": {},\n\"tokenizer\": {}}}\n",
      kFormat,
      kHuggingFace,
      nlohmann::json(eos).dump(),
      contents);
}

std::unique_ptr<Tokenizer> FromJson(const std::string& path, std::string contents, SpecialTokens special) {
  const nlohmann::json json = ParseJson(contents, path);
  const bool ours = json.is_object() && json.value("format", "") == kFormat;
  if (ours && json.value("type", "") != kHuggingFace) {
    return FromDescriptor(path, std::move(contents), json);
  }
  BpeParts parts;
  if (ours) {
    parts = ReadHuggingFace(json.value("tokenizer", nlohmann::json()), path);
    const std::string eos = json.value("eos_token", "");
    parts.eos_id = FindToken(parts, eos);
    if (json.value("version", 0) != 1 || parts.eos_id < 0) {
      Fail(ExitCode::kBadData, "{}: not a tokenizer description of version 1 with its eos_token '{:.100}'", path, eos);
    }
  } else {
    parts = ReadHuggingFace(json, path);
    if (const std::optional<std::string> eos = ChooseEos(parts, path); eos.has_value()) {
      contents = WithEos(contents, *eos);
    }
  }
  parts.name = NameFromPath(path);
  parts.file_name = "tokenizer.json";
  parts.contents = std::move(contents);
  return MakeBpeTokenizer(std::move(parts), special);
}

}  // namespace

bool IsTokenizerFile(std::string_view name) {
  return std::find(kTokenizerFiles.begin(), kTokenizerFiles.end(), name) != kTokenizerFiles.end();
}

uint64_t Tokenizer::Xxh3() const {
  return XXH3_64bits(file_contents().data(), file_contents().size());
}

std::string DecodeBehind(const Tokenizer& tokenizer, std::span<const int32_t> ids, size_t known) {
  const std::string before = tokenizer.Decode(ids.first(known));
  const std::string whole = tokenizer.Decode(ids);
  return {std::mismatch(whole.begin(), whole.end(), before.begin(), before.end()).first, whole.end()};
}

std::unique_ptr<Tokenizer> MakeByteTokenizer() {
  return std::make_unique<ByteTokenizer>();
}

std::unique_ptr<Tokenizer> MakeExternalTokenizer(const std::string& name, int64_t vocab_size, int64_t eos_id) {
  return std::make_unique<ExternalTokenizer>(name, vocab_size, eos_id);
}

std::unique_ptr<Tokenizer> MakeHuggingFaceTokenizer(const std::string& path,
                                                    std::string contents,
                                                    SpecialTokens special) {
  try {
    return FromJson(path, std::move(contents), special);
  } catch (const nlohmann::json::exception& error) {
    Fail(ExitCode::kBadData, "{}: not a tokenizer description: {:.300}", path, error.what());
  }
}

std::unique_ptr<Tokenizer> MakeRankTokenizer(const std::string& path,
                                             const std::string& contents,
                                             SpecialTokens special) {
  BpeParts parts = ReadRanks(contents, path);
  parts.name = NameFromPath(path);
  parts.file_name = "tokenizer.tiktoken";
  parts.contents = contents;
  return MakeBpeTokenizer(std::move(parts), special);
}

std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& what, SpecialTokens special) {
  const auto without_special = [&](std::unique_ptr<Tokenizer> tokenizer) {
    if (special == SpecialTokens::kTokens) {
      Fail(ExitCode::kUsage,
           "{}: --special-tokens is for tokenizer.json and .tiktoken files; this tokenizer has no special tokens that "
           "could stand in text",
           what);
    }
    return tokenizer;
  };
  if (what == "byte") {
    return without_special(MakeByteTokenizer());
  }
  const PathKind kind = KindOf(what);
  if (kind != PathKind::kFile) {
    Fail(ExitCode::kMissingInput,
         "{}: no such tokenizer ({} is there); give `byte` or the file of one: a SentencePiece model, a "
         "tokenizer.json, a .tiktoken",
         what,
         NameOf(kind));
  }
  constexpr int64_t kMostBytes = int64_t{1} << 26;
  std::string contents = ReadSmallFile(what, kMostBytes);
  if (contents.starts_with("{") || what.ends_with(".json")) {
    return MakeHuggingFaceTokenizer(what, std::move(contents), special);
  }
  if (what.ends_with(".tiktoken") || LooksLikeRanks(contents)) {
    return MakeRankTokenizer(what, contents, special);
  }
  return without_special(MakeSentencePieceTokenizer(NameFromPath(what), std::move(contents)));
}

}  // namespace ksa
