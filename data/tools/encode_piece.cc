#include "data/tools/encode_piece.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>

#include "data/tools/json_field.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// Without the line break at its end, LF or CR LF.
std::string_view WithoutBreak(std::string_view line) {
  if (line.ends_with('\n')) {
    line.remove_suffix(1);
  }
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return line;
}

// Calls use(line with its break, whether the break is there) for each line.
template <typename Use>
void ForEachLine(std::string_view text, const Use& use) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    const bool complete = newline != std::string_view::npos;
    const size_t end = complete ? newline + 1 : text.size();
    use(text.substr(begin, end - begin), complete);
    begin = end;
  }
}

class PieceEncoder {
 public:
  PieceEncoder(const Tokenizer& tokenizer, const TextPiece& piece, EncodedPiece& encoded)
      : tokenizer_(tokenizer), piece_(piece), encoded_(encoded) {}

  void Lines(std::string_view text) {
    ForEachLine(text, [&](std::string_view line, bool complete) {
      const bool first = line.data() == text.data();
      Add(WithoutBreak(line), line, first && piece_.open_start, complete || !piece_.open_end);
    });
  }

  void BlankLines(std::string_view text) {
    std::optional<size_t> begin;  // of the block
    size_t end = 0;               // behind its last line, break included
    const auto finish = [&](bool ends) {
      if (begin.has_value()) {
        const std::string_view block = text.substr(*begin, end - *begin);
        Add(ends ? WithoutBreak(block) : block, block, *begin == 0 && piece_.open_start, ends);
        begin.reset();
      }
    };
    ForEachLine(text, [&](std::string_view line, bool) {
      const auto position = static_cast<size_t>(line.data() - text.data());
      const bool goes_on = position == 0 && piece_.open_start;  // the tail of a line that is not blank
      if (WithoutBreak(line).empty() && !goes_on) {
        finish(true);
        return;
      }
      begin = begin.value_or(position);
      end = position + line.size();
    });
    finish(!piece_.open_end);
  }

  void Whole(std::string_view text) { Add(text, text, piece_.open_start, !piece_.open_end); }

  void JsonLines(std::string_view text, const std::string& field, bool replace_halves) {
    ForEachLine(text, [&](std::string_view line, bool) {
      const std::string_view json = WithoutBreak(line);
      if (encoded_.error.empty() && json.find_first_not_of(" \t") != std::string_view::npos) {
        std::string value;
        encoded_.error = FindJsonField(json, field, replace_halves, value);
        if (encoded_.error.empty()) {
          Add(value, line, false, true);
        }
      }
      if (encoded_.error.empty()) {
        ++encoded_.error_line;
        encoded_.error_byte += static_cast<int64_t>(line.size());
      }
    });
  }

 private:
  // `where`: the part of the piece's text that the document came from.
  void Add(std::string_view document, std::string_view where, bool goes_on, bool ends) {
    if (document.empty() && !goes_on) {
      return;
    }
    if (goes_on) {
      tokenizer_.EncodeRest(document, encoded_.tokens);
    } else {
      tokenizer_.Encode(document, encoded_.tokens);
    }
    if (ends) {
      encoded_.tokens.push_back(static_cast<int32_t>(tokenizer_.eos_id()));
    }
    encoded_.parts.push_back({encoded_.tokens.size(), static_cast<size_t>(where.data() - piece_.text.data()), ends});
  }

  const Tokenizer& tokenizer_;
  const TextPiece& piece_;
  EncodedPiece& encoded_;
};

int64_t CountLines(std::string_view text) {
  return std::count(text.begin(), text.end(), '\n');
}

}  // namespace

void EncodePiece(const Tokenizer& tokenizer, const EncodeOptions& options, TextPiece& piece, EncodedPiece& encoded) {
  encoded.tokens.clear();
  encoded.parts.clear();
  encoded.error.clear();
  encoded.error_line = 0;
  encoded.error_byte = 0;
  const size_t valid = ValidUtf8Prefix(piece.text);
  if (valid < piece.text.size()) {
    if (options.invalid_utf8 == InvalidUtf8::kError) {
      encoded.error = fmt::format("not UTF-8 (byte 0x{:02x}); `--invalid-utf8 replace` puts U+FFFD in its place",
                                  static_cast<unsigned char>(piece.text[valid]));
      encoded.error_line = CountLines(std::string_view(piece.text).substr(0, valid));
      encoded.error_byte = static_cast<int64_t>(valid);
      return;
    }
    piece.text = ReplaceInvalidUtf8(piece.text);
  }
  std::string_view text = piece.text;
  encoded.lines = CountLines(text);
  if (piece.begin == 0 && text.starts_with(kByteOrderMark)) {
    text.remove_prefix(kByteOrderMark.size());
  }
  PieceEncoder encoder(tokenizer, piece, encoded);
  switch (options.documents) {
    case Documents::kLine:
      encoder.Lines(text);
      break;
    case Documents::kBlankLine:
      encoder.BlankLines(text);
      break;
    case Documents::kFile:
      encoder.Whole(text);
      break;
    case Documents::kJsonLine:
      encoder.JsonLines(text, options.jsonl_field, options.invalid_utf8 == InvalidUtf8::kReplace);
      break;
  }
}

}  // namespace ksa
