// The text of tokens that come one by one: what can be shown of it already, and where it ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"

namespace ksa {

// What follows a prompt. A character may be several tokens, and a stop text too: what may still become something else
// is held back.
class GrowingText {
 public:
  // `prompt`: tokens that are there already, whose text is not shown. None of `stops` is empty. `tokenizer` outlives
  // the text.
  GrowingText(const Tokenizer& tokenizer, std::vector<int32_t> prompt, std::vector<std::string> stops);

  // -> what can be shown behind what was. Once a stop text is there the text is over, and ends before it.
  [[nodiscard]] std::string Add(int32_t id);

  // There are no more tokens: what was held back.
  [[nodiscard]] std::string End();

  // Whether a stop text came.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  void Settle(size_t known, const std::string& piece);
  [[nodiscard]] std::string Show(bool is_end);

  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;  // the last ones
  size_t known_;              // of them, those whose text is settled
  std::vector<std::string> stops_;
  std::string waiting_;  // settled text that is not shown
  bool stopped_ = false;
};

}  // namespace ksa
