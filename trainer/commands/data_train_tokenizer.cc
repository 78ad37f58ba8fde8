#include <algorithm>
#include <map>
#include <memory>

#include <fmt/core.h>

#include "data/tools/train_tokenizer.h"
#include "kernels/core/threads.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/number_option.h"
#include "trainer/step/cores.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa data train-tokenizer --input book.txt --output bpe.model --vocab-size 4096
  ksa data train-tokenizer --input web.jsonl --jsonl-field text --output unigram.model --kind unigram --vocab-size 32000

The model is a SentencePiece file: every text can be written in it (bytes stand in for rare characters), spaces and line
breaks are kept, and the end of a document is its token 2. No line is left out: longer ones than SentencePiece takes are
cut. A folder stands for the files in it and in its sub-folders, without hidden ones and backups (NAME~).)";

}  // namespace

void AddDataTrainTokenizerCommand(CLI::App& data) {
  CLI::App* command = data.add_subcommand("train-tokenizer", "Train a SentencePiece model on text");
  const auto options = std::make_shared<TrainTokenizerOptions>();
  SentencePieceTraining& training = options->training;
  training.threads = AvailableCores(1);
  command->add_option("--input", options->inputs, "Text files, or folders of them")->required()->expected(1, -1);
  command->add_option("--output", options->output, "FILE.model to make; it must not exist")->required();
  command->add_option("--vocab-size", training.vocab_size, "Tokens in all")
      ->capture_default_str()
      ->check(CLI::Range(8, 1 << 24));
  const std::map<std::string, SentencePieceKind> kinds = {{"bpe", SentencePieceKind::kBpe},
                                                          {"unigram", SentencePieceKind::kUnigram}};
  command->add_option("--kind", training.kind, "bpe (default) or unigram")->transform(CLI::CheckedTransformer(kinds));
  command->add_flag("!--no-byte-fallback", training.byte_fallback, "Rare characters become <unk> instead of bytes");
  command->add_option("--character-coverage", training.character_coverage, "Share of characters with their own piece")
      ->capture_default_str()
      ->check(FiniteNumber(0.5, 1.0));
  command->add_option("--max-sentences", training.max_sentences, "Lines to learn from, drawn evenly; 0: all")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->add_option("--jsonl-field", options->jsonl_field, "Read JSON lines; the text is this field of each");
  const std::map<std::string, bool> policies = {{"error", false}, {"replace", true}};
  command->add_option("--invalid-utf8", options->replace_invalid_utf8, "error (default), or replace by U+FFFD")
      ->transform(CLI::CheckedTransformer(policies));
  command->add_option("--threads", training.threads, "Training threads")
      ->capture_default_str()
      ->check(CLI::Range(1, kMaxThreads));
  command->footer(kExamples);
  command->callback([options] {
    const TrainTokenizerSummary summary = TrainTokenizer(*options);
    fmt::print("{}: {} tokens, from text{} with {} lines\n",
               options->output,
               options->training.vocab_size,
               Describe(summary.inputs),
               summary.lines);
    if (summary.cut_lines > 0) {
      fmt::print("lines of more than {} bytes, taken in parts: {}\n", kLongestTrainingLine, summary.cut_lines);
    }
    if (summary.lost_marks > 0) {
      fmt::print("characters U+2585, which SentencePiece keeps for itself, left out: {}\n", summary.lost_marks);
    }
  });
}

}  // namespace ksa
