#include "data/tools/train_tokenizer.h"

#include <filesystem>
#include <string_view>

#include "data/files/posix_file.h"
#include "data/tools/json_field.h"
#include "data/tools/text_reader.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// The lines of the input, or of the JSON fields in it, one after another; empty ones are left out.
class LineSource {
 public:
  explicit LineSource(const TrainTokenizerOptions& options)
      : options_(options),
        files_(ListTextFiles(options.inputs)),
        reader_(files_, options.jsonl_field.empty() ? Documents::kLine : Documents::kJsonLine, false) {}

  bool Next(std::string& line) {
    do {
      while (position_ >= text_.size()) {
        if (!Refill()) {
          return false;
        }
      }
      line = Take(text_, position_);
    } while (line.empty());
    return true;
  }

 private:
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
    ++line_;
    const std::string line = Take(json_, json_position_);
    position_ = 0;
    text_.clear();
    if (line.empty()) {
      return true;
    }
    const std::string error = FindJsonField(line, options_.jsonl_field, text_);
    if (!error.empty()) {
      Fail(ExitCode::kBadData, "{}:{}: {}", files_[piece_.file], line_, error);
    }
    return true;
  }

  bool ReadPiece(std::string& to) {
    const size_t file = piece_.file;
    if (!reader_.Next(piece_)) {
      return false;
    }
    line_ = piece_.file == file ? line_ : 0;
    const size_t valid = ValidUtf8Prefix(piece_.text);
    if (valid < piece_.text.size() && !options_.replace_invalid_utf8) {
      Fail(ExitCode::kBadData,
           "{}: byte {}: not UTF-8 (byte 0x{:02x}); `--invalid-utf8 replace` puts U+FFFD in its place",
           files_[piece_.file],
           piece_.begin + static_cast<int64_t>(valid),
           static_cast<unsigned char>(piece_.text[valid]));
    }
    to = valid < piece_.text.size() ? ReplaceInvalidUtf8(piece_.text) : piece_.text;
    return true;
  }

  const TrainTokenizerOptions& options_;
  std::vector<std::string> files_;
  TextReader reader_;
  TextPiece piece_;
  std::string json_;  // JSON lines
  size_t json_position_ = 0;
  int64_t line_ = 0;
  std::string text_;  // text to be given out by lines
  size_t position_ = 0;
};

}  // namespace

void TrainTokenizer(const TrainTokenizerOptions& options) {
  if (std::filesystem::exists(options.output)) {
    Fail(ExitCode::kCannotCreate, "{}: exists already; nothing was written", options.output);
  }
  LineSource lines(options);
  const std::string model = TrainSentencePiece(options.training, [&](std::string& line) { return lines.Next(line); });
  WriteFileAtomically(options.output, model);
}

}  // namespace ksa
