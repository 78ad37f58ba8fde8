#include <algorithm>
#include <charconv>
#include <memory>

#include <fmt/core.h>

#include "data/shards/shard_folder.h"
#include "data/tools/tokenize.h"
#include "kernels/core/error.h"
#include "kernels/core/threads.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"
#include "trainer/step/cores.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa data tokenize --input book.txt --output shards/book --tokenizer byte
  ksa data tokenize --input a.txt b.txt --output shards/ab --tokenizer byte --documents blank-line --validation-fraction 0.01
  ksa data tokenize --input web.jsonl --jsonl-field text --output shards/web --tokenizer bpe.model --shards 16 --threads 8
  ksa data tokenize --input web.jsonl --jsonl-field text --output shards/qwen --tokenizer Qwen3-0.6B/tokenizer.json
  ksa data tokenize --input books --part 2/2 --output shards/books-2 --tokenizer byte --shards 4 --resume

Documents are lines unless --documents says otherwise. With --validation-fraction, DIR/train and DIR/validation are the
shard folders, else DIR is. The output appears when everything is written, or not at all. Until then whole shards lie in
DIR.tmp: what is killed goes on behind them with --resume and writes the same bytes; so take enough --shards.
A folder stands for the files in it and in its sub-folders, without hidden ones and backups (NAME~).)";

void Print(const TokenizeOptions& options, const TokenizeSummary& summary) {
  fmt::print("{}: {} tokens in {} documents, {} shard{}\n",
             options.output,
             summary.train_tokens,
             summary.train_documents,
             summary.shards,
             summary.shards == 1 ? "" : "s");
  if (summary.shards_before > 0) {
    fmt::print("went on behind {} shard{} and {:.1f} MB of text of an earlier run\n",
               summary.shards_before,
               summary.shards_before == 1 ? "" : "s",
               static_cast<double>(summary.bytes_before) / 1e6);
  }
  if (summary.validation_documents > 0) {
    fmt::print("validation: {} tokens in {} documents\n", summary.validation_tokens, summary.validation_documents);
  }
  fmt::print("{:.1f} MB of text{} in {:.2f} s ({:.1f} MB/s, {} thread{})\n",
             static_cast<double>(summary.bytes) / 1e6,
             Describe(summary.inputs),
             summary.seconds,
             static_cast<double>(summary.bytes - summary.bytes_before) / 1e6 / summary.seconds,
             options.threads,
             options.threads == 1 ? "" : "s");
}

// "2/8"
TokenizePart ParsePart(const std::string& text) {
  TokenizePart part;
  const char* end = text.data() + text.size();
  const auto number = std::from_chars(text.data(), end, part.number);
  const bool slash = number.ec == std::errc() && number.ptr != end && *number.ptr == '/';
  const auto of = slash ? std::from_chars(number.ptr + 1, end, part.of) : number;
  if (!slash || of.ec != std::errc() || of.ptr != end) {
    Fail(ExitCode::kUsage, "--part: expected I/N, as in 2/8, got '{}'", text);
  }
  return part;
}

}  // namespace

void AddDataTokenizeCommand(CLI::App& data) {
  CLI::App* command = data.add_subcommand("tokenize", "Turn UTF-8 text or JSONL into token shards");
  const auto options = std::make_shared<TokenizeOptions>();
  options->threads = AvailableCores(1);
  command->add_option("--input", options->inputs, "text files, also compressed (gzip, zstd), or folders of them")
      ->required()
      ->expected(1, -1)
      ->type_name("PATH")
      ->group("Text");
  CLI::Option* documents =
      command->add_option("--documents", options->encode.documents, "what a document is")
          ->transform(Choice<Documents>(
              {{"line", Documents::kLine}, {"file", Documents::kFile}, {"blank-line", Documents::kBlankLine}}))
          ->default_str("line")
          ->group("Text");
  command->add_option("--jsonl-field", options->encode.jsonl_field, "read JSON lines; a document is this field of each")
      ->type_name("NAME")
      ->excludes(documents)
      ->group("Text");
  command->add_option("--invalid-utf8", options->encode.invalid_utf8, "text that is not UTF-8; replace: by U+FFFD")
      ->transform(Choice<InvalidUtf8>({{"error", InvalidUtf8::kError}, {"replace", InvalidUtf8::kReplace}}))
      ->default_str("error")
      ->group("Text");
  command->add_option("--tokenizer", options->tokenizer, "bytes; a SentencePiece model, tokenizer.json, .tiktoken")
      ->required()
      ->type_name("byte|FILE")
      ->group("Tokens");
  command
      ->add_flag(
          "--special-tokens",
          [options](int64_t) { options->special_tokens = SpecialTokens::kTokens; },
          "the text of a special token (<|endoftext|>) becomes that token instead of text")
      ->group("Tokens");
  command->add_option("--output", options->output, "folder to make; it must not exist, or be empty")
      ->required()
      ->type_name("DIR")
      ->group("Shards");
  command->add_option("--validation-fraction", options->validation_fraction, "share of the documents to hold out")
      ->check(FiniteNumber(0, 1))
      ->default_str("none")
      ->group("Shards");
  command->add_option("--shards", options->shards, "shards of the training part, at most")
      ->capture_default_str()
      ->check(WholeNumber(1, kMostShards))
      ->group("Shards");
  command->add_flag("--resume", options->resume, "go on with the whole shards that a killed run left in DIR.tmp")
      ->group("Shards");
  const auto part = std::make_shared<std::string>();
  command->add_option("--part", *part, "take the I-th of N shares of the files; `ksa data merge` joins the outputs")
      ->type_name("I/N")
      ->group("Machine");
  command->add_option("--threads", options->threads, "tokenizing threads")
      ->default_str("the cores this process may use")
      ->check(WholeNumber(1, kMaxThreads))
      ->group("Machine");
  command->footer(kExamples);
  options->warn = PrintDataWarning;
  command->callback([options, part] {
    if (!part->empty()) {
      options->part = ParsePart(*part);
    }
    if (!options->encode.jsonl_field.empty()) {
      options->encode.documents = Documents::kJsonLine;
    }
    Print(*options, TokenizeText(*options));
  });
}

}  // namespace ksa
