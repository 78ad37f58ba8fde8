// Puts documents, in order, into the shards of the training and the validation part.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/shards/shard_folder.h"
#include "data/shards/staged_folder.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tools/encode_piece.h"
#include "data/tools/token_journal.h"
#include "data/tools/tokenize.h"
#include "data/tools/tokenize_state.h"

namespace ksa {

class DocumentWriter {
 public:
  // `bytes`: of all input, on the disk. `resumed`: null, or what an earlier run left in `output`.
  DocumentWriter(const TokenizeOptions& options,
                 StagedFolder& output,
                 const Tokenizer& tokenizer,
                 int64_t bytes,
                 std::string settings,
                 const TokenizeState* resumed);

  // `line`: of the piece's first, in its file; `text_bytes`: of all text before it. A piece that an earlier run had
  // begun to write goes on where that stopped.
  void Write(const TextPiece& piece, const EncodedPiece& encoded, int64_t line, int64_t text_bytes);

  // Error kBadData: no document, or an empty part.
  void Finish(TokenizeSummary& summary);

 private:
  // The piece that is being written.
  struct Current {
    const TextPiece* piece = nullptr;
    int64_t line = 0;
    int64_t text_bytes = 0;
  };

  [[nodiscard]] bool holds_out() const { return validation_.has_value(); }

  void Resume(const TokenizeState& state);
  void Begin(const Current& current, size_t part, size_t byte);
  void EndShard(const Current& current, size_t part, int64_t next);

  const TokenizeOptions& options_;
  StagedFolder& output_;
  int64_t total_bytes_;
  std::string settings_;
  std::optional<ShardFolderWriter> train_;
  std::optional<ShardFolderWriter> validation_;
  std::optional<TokenJournal> journal_;  // of the validation part, where there are several shards
  bool in_training_ = true;              // the current document is
  bool in_document_ = false;
  int64_t parts_before_ = 0;  // of the first piece, what an earlier run wrote
  int64_t documents_ = 0;
  int64_t train_shard_ = 0;
};

}  // namespace ksa
