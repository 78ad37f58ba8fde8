#include "trainer/commands/text_writer.h"

#include <utility>

#include <fmt/core.h>

namespace ksa {

void TextWriter::Write(const std::string& piece) {
  fmt::print(file_, "{}", piece);
  if (live_) {
    std::fflush(file_);
  }
}

void TextWriter::Begin() {
  if (texts_.size() > 1 && !headed_) {
    Write(fmt::format("{}==> text {} of {} <==\n", shown_ > 0 ? "\n" : "", shown_ + 1, texts_.size()));
  }
  headed_ = true;
}

void TextWriter::Add(size_t text, const std::string& piece) {
  if (text != shown_) {
    texts_[text].waiting += piece;
  } else if (!piece.empty()) {
    Begin();
    Write(piece);
  }
}

void TextWriter::End(size_t text) {
  texts_[text].is_over = true;
  while (shown_ < texts_.size()) {
    Begin();
    Write(std::exchange(texts_[shown_].waiting, {}));
    if (!texts_[shown_].is_over) {
      return;
    }
    Write("\n");
    ++shown_;
    headed_ = false;
  }
}

}  // namespace ksa
