// Rank files (.tiktoken): the tokens of a byte-level BPE in the order of their merges, and nothing else.
#pragma once

#include <string>

#include "data/tokenizers/bpe_tokenizer.h"

namespace ksa {

// Whether the text begins as a rank file does: a token in base64, a space, its rank.
[[nodiscard]] bool LooksLikeRanks(const std::string& contents);

// All but name and file. What the file does not say is as in Qwen2: its regular expression, text in form C, and behind
// the ranks <|endoftext|> (the end of a document), <|im_start|> and <|im_end|>. Error kBadData naming `path`: not a
// rank file, ranks missing or double, a byte without a token, as many ranks as a vocabulary that is known to be cut
// otherwise.
[[nodiscard]] BpeParts ReadRanks(const std::string& contents, const std::string& path);

}  // namespace ksa
