#include <map>
#include <memory>

#include <fmt/core.h>

#include "data/tools/import.h"
#include "trainer/commands/data_commands.h"

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
  command->add_option("--input", options->inputs, ".bin files, in this order")->required()->expected(1, -1);
  command->add_option("--output", options->output, "Folder to make; it must not exist, or be empty")->required();
  const std::map<std::string, ImportFormat> formats = {{"auto", ImportFormat::kAuto},
                                                       {"llmc", ImportFormat::kLlmc},
                                                       {"nanogpt", ImportFormat::kNanoGpt},
                                                       {"megatron", ImportFormat::kMegatron},
                                                       {"raw", ImportFormat::kRaw}};
  command->add_option("--format", options->format, "auto (default), llmc, nanogpt, megatron or raw")
      ->transform(CLI::CheckedTransformer(formats));
  CLI::Option* tokenizer =
      command->add_option("--tokenizer",
                          options->tokenizer,
                          "What made the tokens: `byte`, a SentencePiece model, a tokenizer.json or a .tiktoken file");
  command->add_option("--vocab-size", options->vocab_size, "Without --tokenizer: size of the vocabulary")
      ->excludes(tokenizer);
  command->add_option("--eos-id", options->eos_id, "Without --tokenizer: token that ends a document")
      ->excludes(tokenizer);
  command->add_option("--name", options->tokenizer_name, "Without --tokenizer: what to call it")->excludes(tokenizer);
  command->add_option("--shards", options->shards, "Shards to make, at most")->capture_default_str();
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
  });
}

}  // namespace ksa
