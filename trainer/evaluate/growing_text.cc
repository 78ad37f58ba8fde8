#include "trainer/evaluate/growing_text.h"

#include <algorithm>
#include <utility>

#include "data/tools/utf8.h"

namespace ksa {
namespace {

// Where the characters end that no further token changes: a tokenizer writes the beginning of a character as U+FFFD,
// one for each byte at most.
size_t WholeCharacters(const std::string& text) {
  size_t end = ValidUtf8Prefix(text);
  for (int i = 0; i < 3 && text.substr(0, end).ends_with(kReplacement); ++i) {
    end -= kReplacement.size();
  }
  return end;
}

// The longest end of the text that is a beginning of `stop`.
size_t BeginningOf(const std::string& stop, std::string_view text) {
  size_t length = std::min(stop.size() - 1, text.size());
  while (length > 0 && !text.ends_with(std::string_view(stop).substr(0, length))) {
    --length;
  }
  return length;
}

}  // namespace

GrowingText::GrowingText(const Tokenizer& tokenizer, std::vector<int32_t> prompt, std::vector<std::string> stops)
    : tokenizer_(tokenizer), ids_(std::move(prompt)), prompt_(ids_.size()), stops_(std::move(stops)) {}

std::string GrowingText::ShowUpTo(size_t end) {
  if (end <= shown_) {
    return {};
  }
  std::string piece = text_.substr(shown_, end - shown_);
  shown_ = end;
  return piece;
}

std::string GrowingText::Add(int32_t id) {
  ids_.push_back(id);
  text_ = DecodeBehind(tokenizer_, ids_, prompt_);
  size_t stop_at = std::string::npos;
  for (const std::string& stop : stops_) {
    stop_at = std::min(stop_at, text_.find(stop));
  }
  if (stop_at != std::string::npos) {
    stopped_ = true;
    text_.resize(stop_at);
    return ShowUpTo(text_.size());
  }
  size_t end = WholeCharacters(text_);
  size_t held = 0;
  for (const std::string& stop : stops_) {
    held = std::max(held, BeginningOf(stop, std::string_view(text_).substr(0, end)));
  }
  end -= held;
  return ShowUpTo(end);
}

std::string GrowingText::End() {
  return ShowUpTo(text_.size());
}

}  // namespace ksa
