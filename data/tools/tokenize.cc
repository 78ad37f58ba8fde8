#include "data/tools/tokenize.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <span>

#include "data/files/paths.h"
#include "data/shards/shard_folder.h"
#include "data/shards/staged_folder.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tools/ordered_pipeline.h"
#include "data/tools/progress_bar.h"
#include "kernels/core/error.h"
#include "kernels/core/philox.h"
#include "kernels/core/threads.h"

namespace ksa {
namespace {

// A fixed key: which documents are held out depends on their numbers alone.
constexpr uint64_t kHeldOutKey = 0x6b73612d64617461U;

struct Slot {
  TextPiece piece;
  EncodedPiece encoded;
};

int64_t TotalBytes(const std::vector<std::string>& files) {
  int64_t bytes = 0;
  for (const std::string& file : files) {
    bytes += FileBytes(file);
  }
  return bytes;
}

// Puts documents, in order, into the shards of the training and the validation part.
class DocumentWriter {
 public:
  DocumentWriter(const TokenizeOptions& options, const StagedFolder& output, const Tokenizer& tokenizer, int64_t bytes)
      : options_(options), total_bytes_(bytes) {
    if (options.validation_fraction <= 0) {
      train_.emplace(output.staging(), output.name(), tokenizer);
      return;
    }
    const auto part = [&](const char* name) {
      const std::string folder = output.staging() + "/" + name;
      MakeFolders(folder);
      return folder;
    };
    train_.emplace(part("train"), "train", tokenizer);
    validation_.emplace(part("validation"), "validation", tokenizer);
  }

  void Write(const TextPiece& piece, const EncodedPiece& encoded) {
    size_t token_begin = 0;
    for (const EncodedPart& part : encoded.parts) {
      if (!in_document_) {
        Begin(PlaceOf(piece, part.byte_begin));
      }
      ShardWriter& shard = folder_->shard();
      shard.Append(std::span(encoded.tokens).subspan(token_begin, part.token_end - token_begin));
      token_begin = part.token_end;
      in_document_ = !part.ends;
      if (part.ends) {
        shard.EndDocument();
        ++documents_;
      }
    }
  }

  void Finish(TokenizeSummary& summary) {
    if (documents_ == 0) {
      Fail(ExitCode::kBadData, "the input holds no document (only empty ones); nothing was written");
    }
    if (validation_.has_value() && (train_->documents() == 0 || validation_->documents() == 0)) {
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
    if (validation_.has_value()) {
      const ShardIndex validation = validation_->Finish();
      summary.validation_documents = validation.documents();
      summary.validation_tokens = validation.tokens();
    }
  }

 private:
  // Where on the disk, of all input, a byte of a piece's text lies.
  static int64_t PlaceOf(const TextPiece& piece, size_t byte) {
    if (piece.file_bytes == piece.text_bytes) {
      return piece.total_begin + static_cast<int64_t>(byte);
    }
    const double share = static_cast<double>(byte) / static_cast<double>(piece.text_bytes);
    return piece.total_begin + static_cast<int64_t>(share * static_cast<double>(piece.file_bytes));
  }

  // Chooses the folder and the shard of the document that begins at this byte of the input.
  void Begin(int64_t byte) {
    if (validation_.has_value() && IsHeldOut(documents_, options_.validation_fraction)) {
      folder_ = &*validation_;
      return;
    }
    folder_ = &*train_;
    const int64_t shard = std::min<int64_t>(
        options_.shards - 1,
        static_cast<int64_t>(static_cast<double>(byte) / static_cast<double>(total_bytes_) * options_.shards));
    if (shard > train_shard_) {
      train_->EndShard();
      train_shard_ = shard;
    }
  }

  const TokenizeOptions& options_;
  int64_t total_bytes_;
  std::optional<ShardFolderWriter> train_;
  std::optional<ShardFolderWriter> validation_;
  ShardFolderWriter* folder_ = nullptr;  // of the current document
  bool in_document_ = false;
  int64_t documents_ = 0;
  int64_t train_shard_ = 0;
};

void CheckOptions(const TokenizeOptions& options) {
  if (options.shards < 1 || options.shards > kMostShards || options.threads < 1 || options.threads > kMaxThreads) {
    Fail(ExitCode::kUsage,
         "--shards {} must be 1 to {} and --threads {} must be 1 to {}",
         options.shards,
         kMostShards,
         options.threads,
         kMaxThreads);
  }
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    Fail(ExitCode::kUsage, "--validation-fraction {} must be at least 0 and below 1", options.validation_fraction);
  }
}

// Throws for a piece that could not be encoded. `line`: of the file, the piece's first, from 0.
void CheckEncoded(const std::string& file, int64_t line, const TextPiece& piece, const EncodedPiece& encoded) {
  if (!encoded.error.empty()) {
    Fail(ExitCode::kBadData,
         "{}:{}: byte {}: {}",
         file,
         line + encoded.error_line + 1,
         piece.begin + encoded.error_byte,
         encoded.error);
  }
}

// Throws or warns when the shards will not fit, as far as the first piece of up to kSampled files tells.
void CheckSpace(const TokenizeOptions& options,
                const std::vector<std::string>& files,
                int64_t bytes,
                const Tokenizer& tokenizer,
                const std::string& folder) {
  constexpr size_t kSampled = 8;
  const size_t step = (files.size() + kSampled - 1) / kSampled;
  double read = 0;
  double tokens = 0;
  double documents = 0;
  Slot slot;
  for (size_t i = 0; i < files.size(); i += step) {
    TextReader reader({files[i]}, options.encode.documents, !tokenizer.CutsAnywhere());
    if (reader.Next(slot.piece)) {
      read += static_cast<double>(slot.piece.file_bytes);
      EncodePiece(tokenizer, options.encode, slot.piece, slot.encoded);  // what is wrong is reported in its turn
      tokens += static_cast<double>(slot.encoded.tokens.size());
      documents += static_cast<double>(slot.encoded.parts.size());
    }
  }
  if (read > 0) {
    const double scale = static_cast<double>(bytes) / read;
    const int64_t space = ShardSpace(tokens * scale, documents * scale, tokenizer.vocab_size(), options.shards);
    CheckShardSpace(folder, space, true, options.warn);
  }
}

}  // namespace

bool IsHeldOut(int64_t number, double fraction) {
  const std::array<uint32_t, 4> bits = Philox4x32(kHeldOutKey, static_cast<uint64_t>(number));
  return static_cast<double>(bits[0]) < fraction * 0x1p32;
}

TokenizeSummary TokenizeText(const TokenizeOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  CheckOptions(options);
  TokenizeSummary summary;
  summary.inputs = ListInputFiles(options.inputs);
  const std::vector<std::string>& files = summary.inputs.files;
  CheckIsText(files);
  CheckJsonField(files, options.encode.jsonl_field);
  const int64_t bytes = TotalBytes(files);
  if (bytes == 0) {
    Fail(ExitCode::kBadData, "{}: empty; there is no text to tokenize", options.inputs.front());
  }
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(options.tokenizer, options.special_tokens);
  StagedFolder output(options.output);
  DocumentWriter writer(options, output, *tokenizer, bytes);
  CheckSpace(options, files, bytes, *tokenizer, output.staging());
  TextReader reader(files, options.encode.documents, !tokenizer->CutsAnywhere());
  ProgressBar progress("tokenize", bytes);
  int64_t line = 0;
  size_t file = 0;

  OrderedPipeline<Slot>::Stages stages;
  stages.read = [&](Slot& slot) { return reader.Next(slot.piece); };
  stages.work = [&](Slot& slot) { EncodePiece(*tokenizer, options.encode, slot.piece, slot.encoded); };
  stages.consume = [&](Slot& slot) {
    line = slot.piece.file == file ? line : 0;
    file = slot.piece.file;
    CheckEncoded(files[file], line, slot.piece, slot.encoded);
    line += slot.encoded.lines;
    writer.Write(slot.piece, slot.encoded);
    summary.bytes += slot.piece.text_bytes;
    progress.Show(slot.piece.total_begin + slot.piece.file_bytes);
  };
  OrderedPipeline<Slot>::Run(options.threads, stages);

  writer.Finish(summary);
  output.Commit();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return summary;
}

}  // namespace ksa
