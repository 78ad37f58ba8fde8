#include "data/tokenizers/tokenizer.h"

#include <algorithm>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tokenizers/foreign_tokenizer.h"
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
         "these tokens were imported without their tokenizer ('{}', {} tokens): text cannot be turned into them here",
         name_,
         vocab_size_);
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

std::unique_ptr<Tokenizer> FromDescriptor(const std::string& path, const std::string& contents) {
  const nlohmann::json json = ParseJson(contents, path);
  if (!json.is_object() || json.value("format", "") != "ksa-tokenizer" || json.value("version", 0) != 1) {
    Fail(ExitCode::kBadData, "{}: not a tokenizer description of version 1", path);
  }
  std::unique_ptr<Tokenizer> tokenizer;
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

std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& what) {
  if (what == "byte") {
    return MakeByteTokenizer();
  }
  const PathKind kind = KindOf(what);
  if (kind != PathKind::kFile) {
    Fail(ExitCode::kMissingInput,
         "{}: no such tokenizer ({} is there); give `byte` or the file of a SentencePiece model",
         what,
         NameOf(kind));
  }
  std::string contents = ReadSmallFile(what);
  if (const std::string foreign = DescribeForeignTokenizer(contents); !foreign.empty()) {
    Fail(
        ExitCode::kBadData,
        "{}: {}, which cannot be read yet. Train a SentencePiece model instead (ksa data train-tokenizer), or make the "
        "ids elsewhere and bring them in with ksa data import --vocab-size N --eos-id E",
        what,
        foreign);
  }
  try {
    if (contents.starts_with("{")) {
      return FromDescriptor(what, contents);
    }
    return MakeSentencePieceTokenizer(what.substr(what.rfind('/') + 1), std::move(contents));
  } catch (const nlohmann::json::exception& error) {
    Fail(ExitCode::kBadData, "{}: not a tokenizer description: {}", what, error.what());
  }
}

}  // namespace ksa
