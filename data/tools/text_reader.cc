#include "data/tools/text_reader.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

bool IsNewline(char c) {
  return c == '\n' || c == '\r';
}

// Behind the last blank line of the text, or 0.
size_t AfterLastBlankLine(std::string_view text) {
  for (size_t end = text.rfind('\n'); end != std::string_view::npos && end > 0; end = text.rfind('\n', end - 1)) {
    const size_t before = text[end - 1] == '\r' ? end - 1 : end;  // the line break is [before, end]
    if (before > 0 && text[before - 1] == '\n') {
      return end + 1;
    }
  }
  return 0;
}

// Whether the line that begins the text holds something else than a JSON object.
bool IsNoObject(std::string_view text) {
  if (text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  const size_t first = text.find_first_not_of(" \t");
  return first != std::string_view::npos && text[first] != '{';
}

}  // namespace

TextReader::TextReader(std::vector<std::string> files, Documents documents, bool cut_at_spaces, size_t piece_bytes)
    : paths_(std::move(files)), documents_(documents), cut_at_spaces_(cut_at_spaces), piece_bytes_(piece_bytes) {}

// Makes the next file that is not empty the current one, when the current one is done.
bool TextReader::OpenFile() {
  while (!input_.has_value() || (rest_.empty() && input_->AtEnd())) {
    if (next_file_ == paths_.size()) {
      return false;
    }
    input_.emplace(paths_[next_file_++]);
    offset_ = 0;
    place_ = 0;
    open_ = false;
  }
  return true;
}

void TextReader::StartAt(const ReaderPlace& place) {
  KSA_CHECK(place.file < paths_.size(), "there is no input file {}", place.file);
  input_.emplace(paths_[place.file]);
  next_file_ = place.file + 1;
  input_->Skip(place.begin);
  rest_.clear();
  input_->Read(rest_, static_cast<size_t>(place.rest));
  offset_ = place.begin;
  total_ = place.total;
  place_ = place.file_place;
  open_ = place.open;
}

size_t TextReader::CutInsideDocument(const std::string& text) const {
  constexpr size_t kSearch = size_t{1} << 16;
  size_t cut = Utf8BoundaryBefore(text, text.size() > 3 ? text.size() - 3 : text.size());
  if (cut_at_spaces_) {
    const size_t least = cut > kSearch ? cut - kSearch : 1;
    for (size_t at = cut; at > least; --at) {
      if (text[at] == ' ' && text[at - 1] != ' ' && !IsNewline(text[at - 1])) {
        return at;
      }
    }
  }
  // Line breaks stay whole and in one piece with what follows them.
  size_t before_breaks = cut;
  while (before_breaks > 0 && IsNewline(text[before_breaks - 1])) {
    --before_breaks;
  }
  return before_breaks > 0 ? before_breaks : cut;
}

// How much of the text is the next piece; more of the file follows. 0: read more first. The first `searched` bytes are
// known to hold no place to cut: a long line is looked through once.
size_t TextReader::ChooseCut(const std::string& text, size_t searched, bool& open_end) const {
  size_t cut = 0;
  if (documents_ == Documents::kLine || documents_ == Documents::kJsonLine) {
    const size_t newline = std::string_view(text).substr(searched).rfind('\n');
    cut = newline == std::string::npos ? 0 : searched + newline + 1;
  } else if (documents_ == Documents::kBlankLine) {
    cut = AfterLastBlankLine(text);
  }
  open_end = cut == 0;
  if (cut == 0 && documents_ != Documents::kJsonLine) {
    cut = CutInsideDocument(text);
  }
  if (cut == 0 && IsNoObject(text)) {
    cut = text.size();  // an error whatever follows, which need not be read for it
  }
  return cut;
}

bool TextReader::Next(TextPiece& piece) {
  if (!OpenFile()) {
    return false;
  }
  piece.place = {next_file_ - 1, offset_, static_cast<int64_t>(rest_.size()), total_, place_, open_};
  piece.file = next_file_ - 1;
  piece.begin = offset_;
  piece.total_begin = total_;
  piece.open_start = open_;
  piece.text.assign(rest_);
  rest_.clear();
  size_t searched = 0;
  while (true) {
    input_->Read(piece.text, piece_bytes_);
    if (input_->AtEnd()) {  // the file's last piece
      piece.open_end = false;
      break;
    }
    const size_t cut = ChooseCut(piece.text, searched, piece.open_end);
    searched = piece.text.size();
    if (cut > 0) {
      rest_.assign(piece.text, cut);
      piece.text.resize(cut);
      break;
    }
  }
  open_ = piece.open_end;
  piece.text_bytes = static_cast<int64_t>(piece.text.size());
  offset_ += piece.text_bytes;
  const int64_t place = input_->compressed() ? input_->position() : offset_;
  piece.file_bytes = place - place_;
  place_ = place;
  total_ += piece.file_bytes;
  return true;
}

}  // namespace ksa
