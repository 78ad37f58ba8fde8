// `ksa data train-tokenizer`: a SentencePiece model of text files.
#pragma once

#include <string>
#include <vector>

#include "data/tokenizers/train_sentencepiece.h"

namespace ksa {

struct TrainTokenizerOptions {
  std::vector<std::string> inputs;  // files, or folders of files
  std::string output;               // FILE.model; must not exist
  std::string jsonl_field;          // empty: plain text
  bool replace_invalid_utf8 = false;
  SentencePieceTraining training;
};

// Error kMissingInput, kBadData (no text, not UTF-8, too small a text), kCannotCreate.
void TrainTokenizer(const TrainTokenizerOptions& options);

}  // namespace ksa
