#include <mutex>
#include <string>
#include <string_view>

#include <sentencepiece_processor.h>

#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr std::string_view kSpaceSymbol = "\xe2\x96\x81";  // U+2581, how a piece spells a space

void CheckStatus(const sentencepiece::util::Status& status, const std::string& name, const char* what) {
  if (!status.ok()) {
    Fail(ExitCode::kBadData, "{}: {}: {}", name, what, status.ToString());
  }
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& name, std::string model) : name_(name), contents_(std::move(model)) {
    CheckStatus(processor_.LoadFromSerializedProto(contents_), name_, "not a SentencePiece model");
    if (processor_.eos_id() < 0) {
      Fail(ExitCode::kBadData,
           "{}: this model defines no end of sentence (eos), which ends every document; train one that does",
           name_);
    }
    std::vector<std::string> pieces;
    CheckStatus(processor_.Encode("a", &pieces), name_, "encoding a text");
    adds_leading_space_ = !pieces.empty() && pieces.front().starts_with(kSpaceSymbol);
  }

  void Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    std::vector<int> encoded;
    CheckStatus(processor_.Encode(absl::string_view(text.data(), text.size()), &encoded), name_, "encoding a text");
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }

  void EncodeRest(std::string_view text, std::vector<int32_t>& ids) const override {
    if (!adds_leading_space_) {
      return Encode(text, ids);
    }
    if (text.starts_with(' ')) {
      return Encode(text.substr(1), ids);  // the model puts the space back
    }
    std::vector<int> encoded;
    CheckStatus(
        PlainProcessor().Encode(absl::string_view(text.data(), text.size()), &encoded), name_, "encoding a text");
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }

  [[nodiscard]] std::string Decode(std::span<const int32_t> ids) const override {
    std::vector<int> wanted;
    for (const int32_t id : ids) {
      if (id < 0 || id >= processor_.GetPieceSize()) {
        Fail(ExitCode::kBadData, "token {} is outside the vocabulary of {} ({})", id, processor_.GetPieceSize(), name_);
      }
      wanted.push_back(id);
    }
    std::string text;
    CheckStatus(processor_.Decode(wanted, &text), name_, "decoding tokens");
    return text;
  }

  [[nodiscard]] bool CutsAnywhere() const override { return false; }

  [[nodiscard]] int64_t vocab_size() const override { return processor_.GetPieceSize(); }

  [[nodiscard]] int64_t eos_id() const override { return processor_.eos_id(); }

  [[nodiscard]] std::string name() const override { return name_; }

  [[nodiscard]] const std::string& file_contents() const override { return contents_; }

  [[nodiscard]] std::string file_name() const override { return "tokenizer.model"; }

 private:
  // The same model without the space before every text; made when it is first needed, which is seldom.
  const sentencepiece::SentencePieceProcessor& PlainProcessor() const {
    std::call_once(plain_made_, [&] {
      // Messages of protobuf may be joined end to end; of a field that is set twice the later value counts. This is
      // ModelProto{normalizer_spec (3): NormalizerSpec{add_dummy_prefix (3): false}}.
      constexpr std::string_view kNoSpace("\x1a\x02\x18\x00", 4);
      CheckStatus(
          plain_.LoadFromSerializedProto(contents_ + std::string(kNoSpace)), name_, "not a SentencePiece model");
    });
    return plain_;
  }

  std::string name_;
  std::string contents_;
  sentencepiece::SentencePieceProcessor processor_;
  bool adds_leading_space_ = false;
  mutable std::once_flag plain_made_;
  mutable sentencepiece::SentencePieceProcessor plain_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakeSentencePieceTokenizer(const std::string& name, std::string model) {
  return std::make_unique<SentencePieceTokenizer>(name, std::move(model));
}

}  // namespace ksa
