#include <algorithm>
#include <memory>

#include <fmt/core.h>

#include "data/tools/train_tokenizer.h"
#include "kernels/core/threads.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"
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
  command->add_option("--input", options->inputs, "text files, or folders of them")
      ->required()
      ->expected(1, -1)
      ->type_name("PATH")
      ->group("Text");
  command->add_option("--jsonl-field", options->jsonl_field, "read JSON lines; the text is this field of each")
      ->type_name("NAME")
      ->group("Text");
  command->add_option("--invalid-utf8", options->replace_invalid_utf8, "text that is not UTF-8; replace: by U+FFFD")
      ->transform(Choice<bool>({{"error", false}, {"replace", true}}))
      ->default_str("error")
      ->group("Text");
  command->add_option("--max-sentences", training.max_sentences, "lines to learn from, drawn evenly; 0: all")
      ->capture_default_str()
      ->check(WholeNumber(0))
      ->group("Text");
  command->add_option("--output", options->output, "FILE.model to make; it must not exist")
      ->required()
      ->type_name("FILE")
      ->group("Model");
  command->add_option("--vocab-size", training.vocab_size, "tokens in all")
      ->capture_default_str()
      ->check(WholeNumber(8, 1 << 24))
      ->group("Model");
  command->add_option("--kind", training.kind, "how pieces are found")
      ->transform(
          Choice<SentencePieceKind>({{"bpe", SentencePieceKind::kBpe}, {"unigram", SentencePieceKind::kUnigram}}))
      ->default_str("bpe")
      ->group("Model");
  command->add_flag("!--no-byte-fallback", training.byte_fallback, "rare characters become <unk> instead of bytes")
      ->group("Model");
  command
      ->add_option("--character-coverage", training.character_coverage, "share of characters with a piece of their own")
      ->capture_default_str()
      ->check(FiniteNumber(0.5, 1.0))
      ->group("Model");
  command->add_option("--threads", training.threads, "training threads")
      ->default_str("the cores this process may use")
      ->check(WholeNumber(1, kMaxThreads))
      ->group("Machine");
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
