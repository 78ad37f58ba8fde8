#include <memory>

#include <fmt/core.h>

#include "data/shards/shard_folder.h"
#include "data/tools/import.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa data import --input fineweb_train_000001.bin --output shards/fw --vocab-size 50257 --eos-id 50256 --name gpt2
  ksa data import --input corpus_text_document.bin --output shards/c --tokenizer bpe.model --shards 8
  ksa data import --input train.bin --format nanogpt --output shards/n --vocab-size 50257 --eos-id 50256

auto takes the format from what lies beside the file: FILE.idx (megatron), FILE.bin.meta naming an integer type (raw),
else the file's header (llmc), else plain u16 (nanogpt) where nothing speaks against it: a known header of something else,
a vocabulary over 65536, 0 in every second place. Documents are cut behind every eos; one without gets one.)";

}  // namespace

void AddDataImportCommand(CLI::App& data) {
  CLI::App* command = data.add_subcommand("import", "Turn token files of other trainers into token shards");
  const auto options = std::make_shared<ImportOptions>();
  command->add_option("--input", options->inputs, ".bin files, in this order")
      ->required()
      ->expected(1, -1)
      ->type_name("FILE")
      ->group("Token files");
  command->add_option("--format", options->format, "what wrote them")
      ->transform(Choice<ImportFormat>({{"auto", ImportFormat::kAuto},
                                        {"llmc", ImportFormat::kLlmc},
                                        {"nanogpt", ImportFormat::kNanoGpt},
                                        {"megatron", ImportFormat::kMegatron},
                                        {"raw", ImportFormat::kRaw}}))
      ->default_str("auto")
      ->group("Token files");
  CLI::Option* tokenizer =
      command->add_option("--tokenizer", options->tokenizer, "what made the tokens, as in data tokenize")
          ->type_name("byte|FILE")
          ->group("Vocabulary");
  command->add_option("--vocab-size", options->vocab_size, "without --tokenizer: size of the vocabulary")
      ->check(WholeNumber(1))
      ->excludes(tokenizer)
      ->group("Vocabulary");
  command->add_option("--eos-id", options->eos_id, "without --tokenizer: token that ends a document")
      ->check(WholeNumber(0))
      ->excludes(tokenizer)
      ->group("Vocabulary");
  command->add_option("--name", options->tokenizer_name, "without --tokenizer: what to call it")
      ->excludes(tokenizer)
      ->type_name("NAME")
      ->group("Vocabulary");
  command->add_option("--output", options->output, "folder to make; it must not exist, or be empty")
      ->required()
      ->type_name("DIR")
      ->group("Shards");
  command->add_option("--shards", options->shards, "shards to make, at most")
      ->capture_default_str()
      ->check(WholeNumber(1, kMostShards))
      ->group("Shards");
  command->footer(kExamples);
  options->warn = PrintDataWarning;
  command->callback([options] {
    const ImportSummary summary = ImportTokens(*options);
    fmt::print("{}: {} tokens in {} documents, {} shard{}\n",
               options->output,
               summary.tokens,
               summary.documents,
               summary.shards,
               summary.shards == 1 ? "" : "s");
    if (options->tokenizer.empty()) {
      fmt::print(
          "without --tokenizer these tokens have no text here: `ksa train` and `ksa eval` take them, `ksa generate` "
          "and "
          "`ksa data inspect` cannot spell them\n");
    }
  });
}

}  // namespace ksa
