// tokenizer.json of Hugging Face's tokenizers, as far as it is byte-level BPE: GPT-2, GPT-NeoX, Llama 3, Qwen and their
// like. What is not known here is refused by name, for an approximation would give other ids without a word.
#pragma once

#include <optional>
#include <string>

#include "data/files/json.h"
#include "data/tokenizers/bpe_tokenizer.h"

namespace ksa {

// All but name, file and eos_id. `json` is the file, `path` names it in messages. Error kBadData.
[[nodiscard]] BpeParts ReadHuggingFace(const nlohmann::json& json, const std::string& path);

// The id of a token as it is spelled in the vocabulary or among the added tokens; -1: there is none.
[[nodiscard]] int32_t FindToken(const BpeParts& parts, const std::string& spelling);

// Chooses the end of a document: the added token <|endoftext|>, else <|end_of_text|>, else the eos_token of a
// tokenizer_config.json in the folder of `path`; the latter is returned. Error kBadData: none of them.
std::optional<std::string> ChooseEos(BpeParts& parts, const std::string& path);

}  // namespace ksa
