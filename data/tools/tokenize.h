// `ksa data tokenize`: text files to a folder of token shards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tools/encode_piece.h"

namespace ksa {

struct TokenizeOptions {
  std::vector<std::string> inputs;  // files, or folders of files
  std::string output;
  std::string tokenizer = "byte";  // or a SentencePiece model's file
  EncodeOptions encode;
  double validation_fraction =
      0;           // of the documents; 0: `output` is one shard folder, else it holds train and validation
  int shards = 1;  // of the training part, each about the same number of input bytes
  int threads = 1;
};

struct TokenizeSummary {
  int64_t bytes = 0;  // of text
  int64_t train_documents = 0;
  int64_t train_tokens = 0;
  int64_t validation_documents = 0;
  int64_t validation_tokens = 0;
  int64_t shards = 0;
  double seconds = 0;
};

// The order of the documents is that of the input, whatever the number of threads. Memory does not grow with the input
// (a line of JSON is held whole). `output` appears when everything is written, or not at all.
// Error kUsage: options out of range; kMissingInput; kBadData: not UTF-8, a bad JSON line (file and line named), no
// document, an empty part; kCannotCreate: `output` exists; kIo.
[[nodiscard]] TokenizeSummary TokenizeText(const TokenizeOptions& options);

// Whether document `number` (from 0) belongs to the validation part.
[[nodiscard]] bool IsHeldOut(int64_t number, double fraction);

}  // namespace ksa
