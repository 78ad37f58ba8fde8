#include "trainer/interop/hf_tokenizer.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace ksa {
namespace {

using nlohmann::ordered_json;

constexpr int kBytes = 256;
constexpr const char* kEndOfText = "<|endoftext|>";

// The letter that stands for a byte in GPT-2's alphabet: itself if it is printed, else one from U+0100 on.
std::string LetterOf(int byte) {
  const auto printed = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae; };
  int code = byte;
  if (!printed(byte)) {
    code = kBytes;
    for (int b = 0; b < byte; ++b) {
      code += printed(b) ? 0 : 1;
    }
  }
  if (code < 0x80) {
    return {static_cast<char>(code)};
  }
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

// BPE without merges: every byte is a token, and its id is the byte.
std::string ByteTokenizerJson() {
  ordered_json vocab;
  for (int byte = 0; byte < kBytes; ++byte) {
    vocab[LetterOf(byte)] = byte;
  }
  const auto byte_level = [](bool encode) -> ordered_json {
    return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", !encode}};
  };
  ordered_json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  root["added_tokens"] = {{{"id", kBytes},
                           {"content", kEndOfText},
                           {"single_word", false},
                           {"lstrip", false},
                           {"rstrip", false},
                           {"normalized", false},
                           {"special", true}}};
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = byte_level(true);
  root["post_processor"] = nullptr;
  root["decoder"] = byte_level(false);
  root["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false},
                   {"vocab", std::move(vocab)},
                   {"merges", ordered_json::array()}};
  return root.dump(2) + "\n";
}

// Without the class, transformers takes the pipeline of the model's type for it.
std::string TokenizerConfigJson(const std::string& eos, int64_t max_length) {
  ordered_json root;
  root["tokenizer_class"] = "PreTrainedTokenizerFast";
  root["bos_token"] = nullptr;
  root["eos_token"] = eos.empty() ? ordered_json() : ordered_json(eos);
  root["pad_token"] = root["eos_token"];
  root["add_bos_token"] = false;
  root["model_max_length"] = max_length;
  root["clean_up_tokenization_spaces"] = false;
  return root.dump(2) + "\n";
}

// The content of the added token with this id in a tokenizer.json of Hugging Face; empty when there is none.
std::string AddedToken(const nlohmann::json& root, int64_t id) {
  const auto added = root.find("added_tokens");
  if (added == root.end() || !added->is_array()) {
    return {};
  }
  for (const nlohmann::json& token : *added) {
    if (token.is_object() && token.value("id", int64_t{-1}) == id && token.contains("content") &&
        token["content"].is_string()) {
      return token["content"].get<std::string>();
    }
  }
  return {};
}

}  // namespace

ExportedTokenizer ExportTokenizer(const Tokenizer& tokenizer, int64_t max_length) {
  if (tokenizer.name() == "byte") {
    return {{{"tokenizer.json", ByteTokenizerJson()},
             {"tokenizer_config.json", TokenizerConfigJson(kEndOfText, max_length)}},
            {}};
  }
  if (tokenizer.file_name() != "tokenizer.json") {
    return {{{tokenizer.file_name(), tokenizer.file_contents()}},
            {fmt::format("{} is shipped as it is: the folder has no tokenizer.json, which transformers would load by "
                         "itself. Encode with the file, or give transformers the ids",
                         tokenizer.file_name())}};
  }
  const nlohmann::json root = nlohmann::json::parse(tokenizer.file_contents(), nullptr, false);
  if (!root.is_object() || !root.contains("model")) {
    return {{}, {fmt::format("the tokenizer '{}' is known by name only: the folder has none", tokenizer.name())}};
  }
  return {{{"tokenizer.json", tokenizer.file_contents()},
           {"tokenizer_config.json", TokenizerConfigJson(AddedToken(root, tokenizer.eos_id()), max_length)}},
          {}};
}

bool IsExportedByteTokenizer(const std::string& contents) {
  return contents == ByteTokenizerJson();
}

}  // namespace ksa
