#include "trainer/evaluate/growing_text.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "data/tools/utf8.h"

namespace ksa {
namespace {

constexpr size_t kMostBytes = 4;  // of a character
constexpr size_t kContext = 16;   // tokens that a token's text may depend on
constexpr size_t kMostIds = 64;

// Whether no further token changes the text. The beginning of a character is no UTF-8, or a tokenizer writes it as
// U+FFFD.
bool IsSettled(const std::string& text) {
  return ValidUtf8Prefix(text) == text.size() && !text.ends_with(kReplacement);
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
    : tokenizer_(tokenizer), ids_(std::move(prompt)), known_(ids_.size()), stops_(std::move(stops)) {}

void GrowingText::Settle(size_t known, const std::string& piece) {
  waiting_ += piece;
  known_ = known;
  if (known_ > kMostIds) {
    const size_t dropped = known_ - kContext;
    ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(dropped));
    known_ -= dropped;
  }
}

std::string GrowingText::Show(bool is_end) {
  size_t end = waiting_.size();
  for (const std::string& stop : stops_) {
    end = std::min(end, waiting_.find(stop));
  }
  if (end < waiting_.size()) {
    stopped_ = true;
    waiting_.resize(end);
  } else if (!is_end) {
    for (const std::string& stop : stops_) {
      end = std::min(end, waiting_.size() - BeginningOf(stop, waiting_));
    }
  }
  std::string shown = waiting_.substr(0, end);
  waiting_.erase(0, end);
  return shown;
}

std::string GrowingText::Add(int32_t id) {
  ids_.push_back(id);
  const std::string piece = DecodeBehind(tokenizer_, ids_, known_);
  if (IsSettled(piece)) {
    Settle(ids_.size(), piece);
    return Show(false);
  }
  // Bytes that are no characters may go on for ever: those before the last few are what they are, up to where no
  // character is cut in two.
  for (size_t cut = 0; cut < kMostBytes && known_ + kMostBytes + cut < ids_.size(); ++cut) {
    const size_t known = ids_.size() - kMostBytes - cut;
    const std::string begun = DecodeBehind(tokenizer_, std::span(ids_).first(known), known_);
    if (piece.starts_with(begun) && Utf8BoundaryBefore(piece, begun.size()) == begun.size()) {
      Settle(known, begun);
      break;
    }
  }
  return Show(false);
}

std::string GrowingText::End() {
  if (!stopped_) {
    Settle(ids_.size(), DecodeBehind(tokenizer_, ids_, known_));
  }
  return Show(true);
}

}  // namespace ksa
