// A byte-level BPE tokenizer: the text in form C if it wants that, added tokens, words by regular expressions, merges.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizers/added_tokens.h"
#include "data/tokenizers/bpe_model.h"
#include "data/tokenizers/split_regex.h"
#include "data/tokenizers/tokenizer.h"

namespace ksa {

// What the file of a tokenizer says.
struct BpeParts {
  std::string name;
  std::string file_name;  // of kTokenizerFiles
  std::string contents;   // of that file
  int32_t eos_id = -1;

  std::vector<std::string> tokens;     // the bytes that each id stands for, added tokens included
  std::vector<std::string> spellings;  // how the file spells each
  std::vector<char> is_word;           // for each id, whether a word can be this token as a whole
  BpeModel model{{}};                  // its merges
  bool whole_words = false;            // a word that is a token is that token, whatever the merges say
  bool nfc = false;                    // text is put into form C
  bool add_prefix_space = false;       // a space is put before a text that does not begin with one
  std::vector<SplitRegex> splits;      // each cuts what the one before left, on both sides of its matches
  std::vector<AddedToken> added;       // in any order, contents distinct
};

[[nodiscard]] std::unique_ptr<Tokenizer> MakeBpeTokenizer(BpeParts parts, SpecialTokens special);

}  // namespace ksa
