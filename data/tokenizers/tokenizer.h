// Text to token ids and back.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ksa {

// The names that the file of a tokenizer may have in a folder of shards, of a run or of a checkpoint.
inline constexpr std::array<const char*, 3> kTokenizerFiles = {
    "tokenizer.json", "tokenizer.model", "tokenizer.tiktoken"};

[[nodiscard]] bool IsTokenizerFile(std::string_view name);

class Tokenizer {
 public:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer() = default;

  // Appends the ids of `text` (valid UTF-8); no end of document. Thread-safe.
  virtual void Encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

  // The same for text that goes on from other text, cut there: no white space is put before it. The white space at the
  // cut is at the beginning of `text`, if there is any.
  virtual void EncodeRest(std::string_view text, std::vector<int32_t>& ids) const { Encode(text, ids); }

  // The text of the ids; eos and ids that stand for no text give none. Error kBadData for an id outside the vocabulary.
  [[nodiscard]] virtual std::string Decode(std::span<const int32_t> ids) const = 0;

  // Whether a text and its two halves, cut at any character, have the same ids; else it may only be cut at white space.
  [[nodiscard]] virtual bool CutsAnywhere() const = 0;

  // Whether ids have a text at all: not those of an external tokenizer, which Decode writes as numbers.
  [[nodiscard]] virtual bool SpellsText() const { return true; }

  [[nodiscard]] virtual int64_t vocab_size() const = 0;
  [[nodiscard]] virtual int64_t eos_id() const = 0;
  [[nodiscard]] virtual std::string name() const = 0;

  // The tokenizer as a file: what a shard folder and a run folder keep, what OpenTokenizer reads, what the hash covers.
  [[nodiscard]] virtual const std::string& file_contents() const = 0;
  [[nodiscard]] virtual std::string file_name() const = 0;

  [[nodiscard]] uint64_t Xxh3() const;  // XXH3-64 of file_contents
};

// The text of `ids` behind that of the first `known` of them. The whole is decoded: a part by itself may lose the space
// before its first word.
[[nodiscard]] std::string DecodeBehind(const Tokenizer& tokenizer, std::span<const int32_t> ids, size_t known);

// ids 0 … 255 are bytes, 256 is the end of a document.
[[nodiscard]] std::unique_ptr<Tokenizer> MakeByteTokenizer();

// A SentencePiece model, given as the contents of its file. Error kBadData when it is none or defines no eos.
[[nodiscard]] std::unique_ptr<Tokenizer> MakeSentencePieceTokenizer(const std::string& name, std::string model);

// Ids whose text is not known here (imported shards): encoding is an error, decoding gives the ids as numbers.
[[nodiscard]] std::unique_ptr<Tokenizer> MakeExternalTokenizer(const std::string& name,
                                                               int64_t vocab_size,
                                                               int64_t eos_id);

// What the text of a special token (<|endoftext|>) in a text is.
enum class SpecialTokens : int {
  kText,    // text like any other
  kTokens,  // that token
};

// The tokenizer.json of Hugging Face's tokenizers, byte-level BPE; `path` names it, and is where a
// tokenizer_config.json is looked for when the file does not tell which token ends a document. Error kBadData: not
// understood in all it says.
[[nodiscard]] std::unique_ptr<Tokenizer> MakeHuggingFaceTokenizer(const std::string& path,
                                                                  std::string contents,
                                                                  SpecialTokens special = SpecialTokens::kText);

// A rank file (.tiktoken), with Qwen2's words and special tokens. Error kBadData.
[[nodiscard]] std::unique_ptr<Tokenizer> MakeRankTokenizer(const std::string& path,
                                                           const std::string& contents,
                                                           SpecialTokens special = SpecialTokens::kText);

// `byte`, a SentencePiece model, a tokenizer.json, a rank file, or a tokenizer's file out of a shard or run folder; the
// contents tell which. Error kMissingInput, kIo, kBadData; kUsage when special tokens are asked for and the tokenizer
// has none that could stand in text.
[[nodiscard]] std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& what,
                                                       SpecialTokens special = SpecialTokens::kText);

}  // namespace ksa
