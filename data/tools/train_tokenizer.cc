#include "data/tools/train_tokenizer.h"

#include <algorithm>
#include <string_view>

#include "data/files/file_error.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/tools/json_field.h"
#include "data/tools/text_reader.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// The lines of the input, or of the JSON fields in it, one after another, as SentencePiece takes them; empty ones are
// left out.
class LineSource {
 public:
  LineSource(const TrainTokenizerOptions& options, TrainTokenizerSummary& summary)
      : options_(options),
        files_(summary.inputs.files),
        summary_(summary),
        reader_(files_, options.jsonl_field.empty() ? Documents::kLine : Documents::kJsonLine, true) {}

  bool Next(std::string& part) {
    do {
      if (line_at_ == line_.size() && !NextLine()) {
        return false;
      }
      part = TakePart();
    } while (part.empty());
    return true;
  }

 private:
  bool NextLine() {
    while (position_ >= text_.size()) {
      if (!Refill()) {
        return false;
      }
    }
    const bool from_start = position_ == 0 && options_.jsonl_field.empty();
    line_ = Take(text_, position_);
    line_at_ = 0;
    const bool goes_on = from_start && piece_.open_start;  // a line longer than a piece, counted at its beginning
    summary_.lines += line_.empty() || goes_on ? 0 : 1;
    summary_.cut_lines += line_.size() > kLongestTrainingLine && !goes_on ? 1 : 0;
    return true;
  }

  // What may be handed over of the line that is being read: up to SentencePiece's mark, else up to the longest that it
  // takes, cut before a space if there is one.
  std::string TakePart() {
    const std::string_view rest = std::string_view(line_).substr(line_at_);
    const size_t mark = rest.substr(0, kLongestTrainingLine + kSentencePieceMark.size()).find(kSentencePieceMark);
    if (mark != std::string_view::npos && mark <= kLongestTrainingLine) {
      ++summary_.lost_marks;
      line_at_ += mark + kSentencePieceMark.size();
      return std::string(rest.substr(0, mark));
    }
    if (rest.size() <= kLongestTrainingLine) {
      line_at_ = line_.size();
      return std::string(rest);
    }
    const size_t space = rest.rfind(' ', kLongestTrainingLine);
    const bool at_space = space != std::string_view::npos && space > 0;
    const size_t end = at_space ? space : Utf8BoundaryBefore(rest, kLongestTrainingLine);
    line_at_ += end + (at_space ? 1 : 0);  // SentencePiece puts a space before every text itself
    return std::string(rest.substr(0, end));
  }

  // The line from `position` on, without its break; moves behind it.
  static std::string Take(const std::string& text, size_t& position) {
    const size_t newline = text.find('\n', position);
    const size_t end = newline == std::string::npos ? text.size() : newline;
    std::string line = text.substr(position, end - position);
    position = end + 1;
    if (line.ends_with('\r')) {
      line.pop_back();
    }
    return line;
  }

  bool Refill() {
    if (options_.jsonl_field.empty()) {
      position_ = 0;
      return ReadPiece(text_);
    }
    while (json_position_ >= json_.size()) {
      json_position_ = 0;
      if (!ReadPiece(json_)) {
        return false;
      }
    }
    ++json_line_;
    const std::string line = Take(json_, json_position_);
    position_ = 0;
    text_.clear();
    if (line.find_first_not_of(" \t") == std::string::npos) {
      return true;
    }
    const std::string error = FindJsonField(line, options_.jsonl_field, options_.replace_invalid_utf8, text_);
    if (!error.empty()) {
      Fail(ExitCode::kBadData, "{}:{}: {}", files_[piece_.file], json_line_, error);
    }
    return true;
  }

  bool ReadPiece(std::string& to) {
    const size_t file = piece_.file;
    if (!reader_.Next(piece_)) {
      return false;
    }
    json_line_ = piece_.file == file ? json_line_ : 0;
    const size_t valid = ValidUtf8Prefix(piece_.text);
    if (valid < piece_.text.size() && !options_.replace_invalid_utf8) {
      Fail(ExitCode::kBadData,
           "{}: byte {}: not UTF-8 (byte 0x{:02x}); `--invalid-utf8 replace` puts U+FFFD in its place",
           files_[piece_.file],
           piece_.begin + static_cast<int64_t>(valid),
           static_cast<unsigned char>(piece_.text[valid]));
    }
    to = valid < piece_.text.size() ? ReplaceInvalidUtf8(piece_.text) : piece_.text;
    if (piece_.begin == 0 && to.starts_with(kByteOrderMark)) {
      to.erase(0, kByteOrderMark.size());
    }
    return true;
  }

  const TrainTokenizerOptions& options_;
  const std::vector<std::string>& files_;
  TrainTokenizerSummary& summary_;
  TextReader reader_;
  TextPiece piece_;
  std::string json_;  // JSON lines
  size_t json_position_ = 0;
  int64_t json_line_ = 0;
  std::string text_;  // text to be given out by lines
  size_t position_ = 0;
  std::string line_;  // the line that is given out, in parts
  size_t line_at_ = 0;
};

// Training takes long: that the model cannot be put there is found out before.
void CheckWritable(const std::string& path) {
  const std::string probe = path + ".tmp";
  File::Create(probe).Close();
  RemoveAll(probe);
}

}  // namespace

TrainTokenizerSummary TrainTokenizer(const TrainTokenizerOptions& options) {
  if (KindOfName(options.output, FileUse::kCreate) != PathKind::kNone) {
    Fail(ExitCode::kCannotCreate, "{}: exists already; nothing was written", options.output);
  }
  TrainTokenizerSummary summary;
  summary.inputs = ListInputFiles(options.inputs);
  CheckIsText(summary.inputs.files);
  CheckJsonField(summary.inputs.files, options.jsonl_field);
  CheckWritable(options.output);
  LineSource lines(options, summary);
  const std::string model = TrainSentencePiece(options.training, [&](std::string& line) { return lines.Next(line); });
  WriteFileAtomically(options.output, model);
  return summary;
}

}  // namespace ksa
