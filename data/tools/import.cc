#include "data/tools/import.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <span>

#include "data/shards/shard_folder.h"
#include "data/shards/staged_folder.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tools/progress_bar.h"
#include "data/tools/token_stream.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int64_t kReadTokens = int64_t{1} << 18;  // at a time

std::unique_ptr<Tokenizer> TokenizerOf(const ImportOptions& options) {
  if (!options.tokenizer.empty()) {
    return OpenTokenizer(options.tokenizer);
  }
  if (options.vocab_size < 1 || options.vocab_size > (int64_t{1} << 31) || options.eos_id < 0 ||
      options.eos_id >= options.vocab_size) {
    Fail(ExitCode::kUsage,
         "say which tokenizer made the tokens: --tokenizer byte or FILE.model, or else --vocab-size and an --eos-id "
         "below it (given: {} and {})",
         options.vocab_size,
         options.eos_id);
  }
  return MakeExternalTokenizer(
      options.tokenizer_name.empty() ? "external" : options.tokenizer_name, options.vocab_size, options.eos_id);
}

// Cuts tokens into documents and documents into shards.
class DocumentCutter {
 public:
  DocumentCutter(ShardFolderWriter& writer, int32_t eos, int64_t tokens, int shards)
      : writer_(writer), eos_(eos), total_(tokens), shards_(shards) {}

  void Add(std::span<const int32_t> tokens) {
    while (!tokens.empty()) {
      const auto end = std::find(tokens.begin(), tokens.end(), eos_);
      const auto length = static_cast<size_t>(end - tokens.begin());
      if (length > 0) {
        BeginDocument();
        writer_.shard().Append(tokens.first(length));
      }
      if (end != tokens.end()) {
        EndDocument();
        ++ends_found_;
      }
      const size_t taken = std::min(tokens.size(), length + 1);
      done_ += static_cast<int64_t>(taken);
      tokens = tokens.subspan(taken);
    }
  }

  // End-of-document tokens that the files hold.
  [[nodiscard]] int64_t ends_found() const { return ends_found_; }

  // Ends the document that is open, if one is.
  void EndDocument() {
    if (open_) {
      writer_.shard().Append(std::span(&eos_, 1));
      writer_.shard().EndDocument();
      open_ = false;
    }
  }

 private:
  void BeginDocument() {
    if (open_) {
      return;
    }
    open_ = true;
    const auto shard = static_cast<int>(static_cast<double>(done_) / static_cast<double>(total_) * shards_);
    if (shard > shard_) {
      writer_.EndShard();
      shard_ = shard;
    }
  }

  ShardFolderWriter& writer_;
  int32_t eos_;
  int64_t total_;
  int64_t done_ = 0;
  int shards_;
  int shard_ = 0;
  int64_t ends_found_ = 0;
  bool open_ = false;
};

// Feeds one file to the cutter.
void CutStream(const TokenStream& stream,
               int64_t vocab_size,
               DocumentCutter& cutter,
               const std::function<void(int64_t)>& progress) {
  std::vector<int32_t> tokens;
  auto next_end = stream.document_ends.begin();
  for (int64_t first = 0; first < stream.count; first += static_cast<int64_t>(tokens.size())) {
    ReadTokens(stream, first, std::min(kReadTokens, stream.count - first), vocab_size, tokens);
    std::span<const int32_t> rest(tokens);
    int64_t position = first;
    const int64_t last = first + static_cast<int64_t>(tokens.size());
    for (; next_end != stream.document_ends.end() && *next_end <= last; ++next_end) {
      const auto part = static_cast<size_t>(*next_end - position);
      cutter.Add(rest.first(part));
      cutter.EndDocument();
      rest = rest.subspan(part);
      position = *next_end;
    }
    cutter.Add(rest);
    progress(last);
  }
  cutter.EndDocument();
}

}  // namespace

ImportSummary ImportTokens(const ImportOptions& options) {
  if (options.shards < 1 || options.shards > kMostShards) {
    Fail(ExitCode::kUsage, "--shards {} must be 1 to {}", options.shards, kMostShards);
  }
  const std::unique_ptr<Tokenizer> tokenizer = TokenizerOf(options);
  int64_t total = 0;
  for (const std::string& input : options.inputs) {
    total += OpenTokenStream(input, options.format, tokenizer->vocab_size()).count;
  }
  StagedFolder output(options.output);
  ShardFolderWriter writer(output.staging(), output.name(), *tokenizer);
  const int64_t space = ShardSpace(static_cast<double>(total), 0, tokenizer->vocab_size(), options.shards);
  CheckShardSpace(output.staging(), space, false, options.warn);
  DocumentCutter cutter(writer, static_cast<int32_t>(tokenizer->eos_id()), total, options.shards);
  ProgressBar progress("import", total);
  int64_t done = 0;
  bool indexed = false;  // documents end where an index says so
  for (const std::string& input : options.inputs) {
    const TokenStream stream = OpenTokenStream(input, options.format, tokenizer->vocab_size());
    CutStream(stream, tokenizer->vocab_size(), cutter, [&](int64_t tokens) { progress.Show(done + tokens); });
    done += stream.count;
    indexed = indexed || !stream.document_ends.empty();
  }
  const ShardIndex index = writer.Finish();
  if (cutter.ends_found() == 0 && !indexed) {
    options.warn(fmt::format(
        "the end-of-document token {} is nowhere in the input ({} tokens, {} documents); is it the right --eos-id?",
        tokenizer->eos_id(),
        index.tokens(),
        index.documents()));
  }
  output.Commit();
  return {index.tokens(), index.documents(), static_cast<int64_t>(index.shards.size())};
}

}  // namespace ksa
