// What `ksa generate` is to continue.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"

namespace ksa {

struct PromptOptions {
  std::vector<std::string> texts;
  std::string file;              // a prompt a line
  std::vector<std::string> ids;  // "1,2,3"
};

struct Prompt {
  std::string text;              // empty where ids were given
  std::vector<int32_t> context;  // at least one token
  size_t lead = 0;               // tokens at its beginning that the text does not have: the end of a document before it
};

// In the order of the options: texts, the file's lines, ids. An empty text is the beginning of a document.
// Error(kUsage) without any, kMissingInput, kIo, kBadData for text that is no UTF-8, for text where the tokenizer
// spells none, and for ids outside of `vocabulary`. `checkpoint`: for messages.
[[nodiscard]] std::vector<Prompt> ReadPrompts(const PromptOptions& options,
                                              const Tokenizer& tokenizer,
                                              int64_t vocabulary,
                                              const std::string& checkpoint);

// "1,2,3"
[[nodiscard]] std::string JoinIds(const std::vector<int32_t>& ids);

}  // namespace ksa
