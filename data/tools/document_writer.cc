#include "data/tools/document_writer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "data/files/paths.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kJournal = "validation.journal";

// Where on the disk, of all input, a byte of a piece's text lies.
int64_t PlaceOf(const TextPiece& piece, size_t byte) {
  if (piece.file_bytes == piece.text_bytes) {
    return piece.total_begin + static_cast<int64_t>(byte);
  }
  const double share = static_cast<double>(byte) / static_cast<double>(piece.text_bytes);
  return piece.total_begin + static_cast<int64_t>(share * static_cast<double>(piece.file_bytes));
}

}  // namespace

DocumentWriter::DocumentWriter(const TokenizeOptions& options,
                               StagedFolder& output,
                               const Tokenizer& tokenizer,
                               int64_t bytes,
                               std::string settings,
                               const TokenizeState* resumed)
    : options_(options), output_(output), total_bytes_(bytes), settings_(std::move(settings)) {
  const std::string& staging = output.staging();
  if (options.validation_fraction <= 0) {
    const std::string folder = staging + "/shards";
    MakeFolders(folder);
    train_.emplace(folder, output.name(), tokenizer);
  } else {
    MakeFolders(staging + "/train");
    RemoveAll(staging + "/validation");
    MakeFolders(staging + "/validation");
    train_.emplace(staging + "/train", "train", tokenizer);
    validation_.emplace(staging + "/validation", "validation", tokenizer);
    if (options.shards > 1) {
      journal_.emplace(staging + "/" + kJournal, resumed == nullptr ? -1 : resumed->journal_bytes);
    }
  }
  if (resumed != nullptr) {
    Resume(*resumed);
  }
}

void DocumentWriter::Resume(const TokenizeState& state) {
  train_->Adopt(state.train);
  if (journal_.has_value()) {
    journal_->Replay([this](std::span<const int32_t> tokens) { validation_->shard().Append(tokens); },
                     [this] { validation_->shard().EndDocument(); });
  }
  parts_before_ = state.parts;
  documents_ = state.documents;
  train_shard_ = state.shard;
}

void DocumentWriter::Write(const TextPiece& piece, const EncodedPiece& encoded, int64_t line, int64_t text_bytes) {
  const Current current = {&piece, line, text_bytes};
  const auto before = static_cast<size_t>(std::exchange(parts_before_, 0));
  if (before > encoded.parts.size()) {
    Fail(ExitCode::kBadData, "{}: the input has changed since; remove it and begin anew", output_.staging());
  }
  size_t token_begin = before == 0 ? 0 : encoded.parts[before - 1].token_end;
  for (size_t i = before; i < encoded.parts.size(); ++i) {
    const EncodedPart& part = encoded.parts[i];
    if (!in_document_) {
      Begin(current, i, part.byte_begin);
    }
    ShardWriter& shard = (in_training_ ? *train_ : *validation_).shard();
    const auto tokens = std::span(encoded.tokens).subspan(token_begin, part.token_end - token_begin);
    shard.Append(tokens);
    const bool journals = !in_training_ && journal_.has_value();
    if (journals) {
      journal_->Append(tokens);
    }
    token_begin = part.token_end;
    in_document_ = !part.ends;
    if (part.ends) {
      shard.EndDocument();
      ++documents_;
      if (journals) {
        journal_->EndDocument();
      }
    }
  }
}

// Chooses the folder and the shard of the document that begins at this byte of the piece.
void DocumentWriter::Begin(const Current& current, size_t part, size_t byte) {
  in_training_ = !(holds_out() && IsHeldOut(documents_, options_.validation_fraction, options_.part.number));
  if (!in_training_) {
    return;
  }
  const auto place = static_cast<double>(PlaceOf(*current.piece, byte));
  const int64_t shard = std::min<int64_t>(
      options_.shards - 1, static_cast<int64_t>(place / static_cast<double>(total_bytes_) * options_.shards));
  if (shard > train_shard_) {
    EndShard(current, part, shard);
  }
}

// From here on a later run can go on with the document that begins now.
void DocumentWriter::EndShard(const Current& current, size_t part, int64_t next) {
  train_->EndShard();
  train_shard_ = next;
  if (train_->index().shards.empty()) {
    return;
  }
  WriteState(output_.staging(),
             {.settings = settings_,
              .place = current.piece->place,
              .parts = static_cast<int64_t>(part),
              .line = current.line,
              .text_bytes = current.text_bytes,
              .documents = documents_,
              .shard = next,
              .journal_bytes = journal_.has_value() ? journal_->Sync() : -1,
              .train = train_->index()});
  output_.Keep();
  if (options_.on_shard) {
    options_.on_shard(static_cast<int64_t>(train_->index().shards.size()));
  }
}

void DocumentWriter::Finish(TokenizeSummary& summary) {
  if (documents_ == 0) {
    Fail(ExitCode::kBadData, "the input holds no document (only empty ones); nothing was written");
  }
  if (holds_out() && (train_->documents() == 0 || validation_->documents() == 0)) {
    Fail(ExitCode::kBadData,
         "--validation-fraction {} puts {} of {} documents into the validation part; each part needs at least one. "
         "Take another fraction, or smaller documents (--documents)",
         options_.validation_fraction,
         validation_->documents(),
         documents_);
  }
  const ShardIndex train = train_->Finish();
  summary.train_documents = train.documents();
  summary.train_tokens = train.tokens();
  summary.shards = static_cast<int64_t>(train.shards.size());
  if (holds_out()) {
    const ShardIndex validation = validation_->Finish();
    summary.validation_documents = validation.documents();
    summary.validation_tokens = validation.tokens();
    RemoveAll(output_.staging() + "/" + kJournal);
    return;
  }
  // The shards are what the output holds.
  const std::string folder = output_.staging() + "/shards";
  for (const std::string& name : NamesIn(folder)) {
    Rename(folder + "/" + name, output_.staging() + "/" + name);
  }
  RemoveAll(folder);
}

}  // namespace ksa
