// Text files as a sequence of pieces of about a megabyte, cut where documents end if that is possible: the unit of work
// of the tokenizing threads. A document longer than a piece goes on in the next one, so that memory is bounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/tools/text_input.h"

namespace ksa {

// What a document is.
enum class Documents : int {
  kLine,
  kFile,
  kBlankLine,  // blocks between blank lines
  kJsonLine,   // a field of the JSON object on each line; such lines are never cut
};

// Where a reader stands between two pieces: all that the pieces that follow depend on.
struct ReaderPlace {
  size_t file = 0;         // index of the input file
  int64_t begin = 0;       // byte offset of the next piece's text in its file, unpacked
  int64_t rest = 0;        // bytes behind that which were read already
  int64_t total = 0;       // TextPiece::total_begin
  int64_t file_place = 0;  // bytes on the disk of the file that the text before came from
  bool open = false;       // TextPiece::open_start
};

struct TextPiece {
  ReaderPlace place;        // at which it was read
  size_t file = 0;          // index of the input file
  int64_t begin = 0;        // byte offset of the text in its file, unpacked
  int64_t total_begin = 0;  // bytes of all files before it, as they lie on the disk
  int64_t file_bytes = 0;   // bytes on the disk that the text came from, as far as compressed ones belong to a text
  int64_t text_bytes = 0;   // bytes of the text as it was read
  std::string text;
  bool open_start = false;  // the first document began in an earlier piece
  bool open_end = false;    // the last document goes on in the next piece
};

class TextReader {
 public:
  // `files` must exist, plain or compressed (TextInput). `cut_at_spaces`: prefer to cut a long document before a space.
  TextReader(std::vector<std::string> files, Documents documents, bool cut_at_spaces, size_t piece_bytes = kPieceBytes);

  // Begins there instead of at the beginning of the first file. Of compressed files what lies before is unpacked again.
  void StartAt(const ReaderPlace& place);

  // False at the end of the last file.
  bool Next(TextPiece& piece);

  static constexpr size_t kPieceBytes = size_t{1} << 20;

 private:
  bool OpenFile();
  void ReadMore(std::string& text);
  size_t ChooseCut(const std::string& text, size_t searched, bool& open_end) const;
  size_t CutInsideDocument(const std::string& text) const;

  std::vector<std::string> paths_;
  Documents documents_;
  bool cut_at_spaces_;
  size_t piece_bytes_;
  size_t next_file_ = 0;
  std::optional<TextInput> input_;
  bool open_ = false;   // the document at the end of the last piece goes on
  std::string rest_;    // read from the file but not handed out
  int64_t offset_ = 0;  // of rest_ in the text
  int64_t total_ = 0;   // bytes on the disk that belong to what was handed out
  int64_t place_ = 0;   // the same of the current file
};

}  // namespace ksa
