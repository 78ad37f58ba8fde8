// How far a run of `ksa data tokenize` is: what lies beside its whole shards, for a later one to go on with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/shards/shard_index.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tools/text_reader.h"
#include "data/tools/tokenize.h"

namespace ksa {

struct TokenizeState {
  std::string settings;        // SettingsOf
  ReaderPlace place;           // of the piece in which the next shard's first document begins
  int64_t parts = 0;           // of that piece, those that are written
  int64_t line = 0;            // of the piece's first, in its file
  int64_t text_bytes = 0;      // before that piece
  int64_t documents = 0;       // so far, held out ones too
  int64_t shard = 0;           // of the training part, as its input's bytes are divided: the next one
  int64_t journal_bytes = -1;  // of the documents held out so far; -1: none are
  ShardIndex train;            // whole shards
};

// Everything that decides which bytes are written: options, tokenizer, and each file with its size and times.
[[nodiscard]] std::string SettingsOf(const TokenizeOptions& options,
                                     const std::vector<std::string>& files,
                                     const Tokenizer& tokenizer);

void WriteState(const std::string& staging, const TokenizeState& state);

// Error kBadData: no state, or one of other settings.
[[nodiscard]] TokenizeState ReadState(const std::string& staging, const std::string& settings);

}  // namespace ksa
