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
#include "data/tools/document_writer.h"
#include "data/tools/ordered_pipeline.h"
#include "data/tools/progress_bar.h"
#include "data/tools/tokenize_state.h"
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

bool IsHeldOut(int64_t number, double fraction, int64_t part) {
  const std::array<uint32_t, 4> bits =
      Philox4x32(kHeldOutKey, static_cast<uint64_t>(number), static_cast<uint64_t>(part - 1));
  return static_cast<double>(bits[0]) < fraction * 0x1p32;
}

std::vector<std::string> FilesOfPart(const std::vector<std::string>& files, const TokenizePart& part) {
  if (part.of < 1 || part.number < 1 || part.number > part.of) {
    Fail(ExitCode::kUsage, "--part {}/{}: the first number is 1 to the second", part.number, part.of);
  }
  if (part.of == 1) {
    return files;
  }
  const int64_t total = std::max<int64_t>(1, TotalBytes(files));
  std::vector<std::string> own;
  int64_t before = 0;
  for (const std::string& file : files) {
    const double share = static_cast<double>(before) / static_cast<double>(total);
    if (std::min(part.of - 1, static_cast<int64_t>(share * static_cast<double>(part.of))) == part.number - 1) {
      own.push_back(file);
    }
    before += FileBytes(file);
  }
  if (own.empty()) {
    Fail(ExitCode::kBadData,
         "--part {}/{}: no file of {} falls to this part; parts are made of whole files, so take fewer of them, or cut "
         "the input into more files of about the same size",
         part.number,
         part.of,
         files.size());
  }
  return own;
}

TokenizeSummary TokenizeText(const TokenizeOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  CheckOptions(options);
  TokenizeSummary summary;
  summary.inputs = ListInputFiles(options.inputs);
  summary.inputs.files = FilesOfPart(summary.inputs.files, options.part);
  const std::vector<std::string>& files = summary.inputs.files;
  CheckIsText(files);
  CheckJsonField(files, options.encode.jsonl_field);
  const int64_t bytes = TotalBytes(files);
  if (bytes == 0) {
    Fail(ExitCode::kBadData, "{}: empty; there is no text to tokenize", options.inputs.front());
  }
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(options.tokenizer, options.special_tokens);
  StagedFolder output(options.output, options.resume ? LeftOver::kTake : LeftOver::kRefuse);
  const std::string settings = SettingsOf(options, files, *tokenizer);
  std::optional<TokenizeState> resumed;
  if (output.resumed()) {
    output.Keep();
    resumed = ReadState(output.staging(), settings);
    summary.shards_before = static_cast<int64_t>(resumed->train.shards.size());
    summary.bytes_before = resumed->text_bytes;
    summary.bytes = resumed->text_bytes;
  }
  DocumentWriter writer(options, output, *tokenizer, bytes, settings, resumed ? &*resumed : nullptr);
  CheckSpace(options, files, bytes, *tokenizer, output.staging());
  TextReader reader(files, options.encode.documents, !tokenizer->CutsAnywhere());
  int64_t line = 0;
  size_t file = 0;
  if (resumed) {
    reader.StartAt(resumed->place);
    line = resumed->line;
    file = resumed->place.file;
  }
  ProgressBar progress("tokenize", bytes, resumed ? resumed->place.total : 0);

  OrderedPipeline<Slot>::Stages stages;
  stages.read = [&](Slot& slot) { return reader.Next(slot.piece); };
  stages.work = [&](Slot& slot) { EncodePiece(*tokenizer, options.encode, slot.piece, slot.encoded); };
  stages.consume = [&](Slot& slot) {
    line = slot.piece.file == file ? line : 0;
    file = slot.piece.file;
    CheckEncoded(files[file], line, slot.piece, slot.encoded);
    writer.Write(slot.piece, slot.encoded, line, summary.bytes);
    line += slot.encoded.lines;
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
