// Tokens that are found in the text before it is cut into words: special ones (<|endoftext|>), and others that a
// tokenizer got after its training.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizers/split_regex.h"

namespace ksa {

struct AddedToken {
  int32_t id = 0;
  std::string content;       // not empty
  bool single_word = false;  // only where no letter, mark, digit or underscore stands beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and behind it
  bool normalized = false;   // looked for in normalized text
  bool special = false;
};

// A part of a text: a token, or text (id -1).
struct AddedPart {
  int32_t id = -1;
  std::string_view text;
};

// Finds a set of tokens: of those that begin leftmost the longest, and on behind it.
class AddedTokens {
 public:
  // `special`: whether special tokens are found. One that is not is still the longest: none is looked for inside it.
  AddedTokens(std::vector<AddedToken> tokens, bool special);

  // Whether no text has any of them.
  [[nodiscard]] bool Never() const { return never_; }

  // The parts of `text`, appended to `parts`.
  void Split(std::string_view text, RegexState& state, std::vector<AddedPart>& parts) const;

 private:
  static constexpr int32_t kNothing = -1;

  [[nodiscard]] int32_t LongestAt(std::string_view text, size_t at) const;
  [[nodiscard]] bool Allowed(const AddedToken& token, std::string_view text, size_t at, RegexState& state) const;

  std::vector<AddedToken> tokens_;
  bool special_;
  bool never_ = true;
  std::array<bool, 256> begins_{};                  // whether a token begins with this byte
  std::unordered_map<uint64_t, int32_t> children_;  // of a tree of prefixes: node << 8 | byte; the root is 0
  std::vector<int32_t> token_at_{kNothing};         // of a node
  SplitRegex word_begin_;
  SplitRegex word_end_;
};

}  // namespace ksa
