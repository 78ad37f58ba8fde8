// `ksa data train-tokenizer`: a SentencePiece model of text files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizers/train_sentencepiece.h"
#include "data/tools/input_files.h"

namespace ksa {

struct TrainTokenizerOptions {
  std::vector<std::string> inputs;  // files, or folders of files
  std::string output;               // FILE.model; must not exist
  std::string jsonl_field;          // empty: plain text
  bool replace_invalid_utf8 = false;
  SentencePieceTraining training;
};

// What became of the text. No line is left out.
struct TrainTokenizerSummary {
  InputFiles inputs;
  int64_t lines = 0;       // of text, as they are in the input; empty ones don't count
  int64_t cut_lines = 0;   // of these, handed over in parts because they are longer than SentencePiece takes
  int64_t lost_marks = 0;  // characters U+2585 left out: SentencePiece keeps this one for itself, and its line with it
};

// Error kUsage (JSON without a field), kMissingInput, kBadData (no text, not UTF-8, too small a text), kCannotCreate,
// kIo.
[[nodiscard]] TrainTokenizerSummary TrainTokenizer(const TrainTokenizerOptions& options);

}  // namespace ksa
