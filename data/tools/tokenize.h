// `ksa data tokenize`: text files to a folder of token shards.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/tools/encode_piece.h"
#include "data/tools/input_files.h"
#include "data/tools/shard_space.h"

namespace ksa {

// One of several processes, each of which takes some of the files.
struct TokenizePart {
  int64_t number = 1;  // from 1
  int64_t of = 1;
};

struct TokenizeOptions {
  std::vector<std::string> inputs;  // files, or folders of files
  std::string output;
  std::string tokenizer = "byte";                       // or the file of one (OpenTokenizer)
  SpecialTokens special_tokens = SpecialTokens::kText;  // what their text in the input becomes
  EncodeOptions encode;
  double validation_fraction =
      0;           // of the documents; 0: `output` is one shard folder, else it holds train and validation
  int shards = 1;  // of the training part, each about the same number of input bytes
  int threads = 1;
  TokenizePart part;
  bool resume = false;  // go on with the whole shards that a killed run left; where there are none, begin
  Warn warn = [](const std::string&) {};         // is told what the user should know before the work begins
  std::function<void(int64_t shards)> on_shard;  // for tests: so many are whole now; may be empty
};

struct TokenizeSummary {
  InputFiles inputs;
  int64_t bytes = 0;  // of text, unpacked
  int64_t train_documents = 0;
  int64_t train_tokens = 0;
  int64_t validation_documents = 0;
  int64_t validation_tokens = 0;
  int64_t shards = 0;
  int64_t shards_before = 0;  // of these, what an earlier run had made
  int64_t bytes_before = 0;   // of text that went into them
  double seconds = 0;
};

// The order of the documents is that of the input, whatever the number of threads. Memory does not grow with the input
// (a line of JSON is held whole). `output` appears when everything is written, or not at all; until then whole shards
// lie in `OUTPUT.tmp`, which a run that is killed, or fails after the first of them, leaves for `resume`. A resumed run
// writes the same bytes as one that was never interrupted.
//
// A part takes files, not pieces of them: file f goes where the bytes before it lie among all.
//
// Error kUsage: options out of range, JSON without a field, special tokens of a tokenizer that has none; kMissingInput;
// kBadData: not UTF-8, a bad JSON line (file and line named), no document, an empty part; kCannotCreate: `output`
// exists or may not be made; kIo, also when the disk has no room for the shards as far as that can be told from the
// beginnings of a few files.
[[nodiscard]] TokenizeSummary TokenizeText(const TokenizeOptions& options);

// Whether document `number` (from 0) of a part (from 1) belongs to the validation part.
[[nodiscard]] bool IsHeldOut(int64_t number, double fraction, int64_t part = 1);

// The files of a part. Error kUsage: there is no such part; kBadData: it has no file.
[[nodiscard]] std::vector<std::string> FilesOfPart(const std::vector<std::string>& files, const TokenizePart& part);

}  // namespace ksa
