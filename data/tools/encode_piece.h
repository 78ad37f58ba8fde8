// What a tokenizing thread does with one piece of text: find its documents, check it, turn it into tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizers/tokenizer.h"
#include "data/tools/text_reader.h"

namespace ksa {

enum class InvalidUtf8 : int { kError, kReplace };

struct EncodeOptions {
  Documents documents = Documents::kLine;
  std::string jsonl_field;  // for Documents::kJsonLine
  InvalidUtf8 invalid_utf8 = InvalidUtf8::kError;
};

// A document, or the part of one that lies in a piece. Its tokens begin where those of the part before it end.
struct EncodedPart {
  size_t token_end = 0;   // in EncodedPiece::tokens
  size_t byte_begin = 0;  // in the piece's text
  bool ends = true;       // the document ends here: its last token is eos
};

struct EncodedPiece {
  std::vector<int32_t> tokens;
  std::vector<EncodedPart> parts;
  int64_t lines = 0;  // line breaks in the piece

  // The first thing that is wrong with the piece; empty when nothing is. Place: relative to the piece.
  std::string error;
  int64_t error_line = 0;  // from 0
  int64_t error_byte = 0;
};

// Overwrites `encoded`. `piece.text` is changed when invalid UTF-8 is replaced. Empty documents are left out.
void EncodePiece(const Tokenizer& tokenizer, const EncodeOptions& options, TextPiece& piece, EncodedPiece& encoded);

}  // namespace ksa
