#include <algorithm>
#include <memory>
#include <string>

#include <fmt/core.h>

#include "data/tools/inspect.h"
#include "kernels/core/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/number_option.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa data inspect shards/book      # a folder that holds train and validation
  ksa data inspect shards/book/train --document 17
  ksa data inspect shards/a --validation shards/b/validation

Prints counts, a histogram of document lengths and a sample of the text. With a validation part it also prints that
part's cross-entropy under counts of the training part, in nats a token: unigram, bigram, and 4-gram with Witten-Bell
smoothing. They are floors: a model that does not get below the last has learnt nothing that counting would not give.)";

struct InspectOptions {
  std::string folder;
  std::string validation;
  int64_t document = 0;
  int64_t tokens = 200;
};

void PrintFolder(const ShardFolder& folder, const InspectOptions& options) {
  constexpr int kBarWidth = 40;
  const ShardIndex& index = folder.index();
  fmt::print("{}: {} tokens, {} documents, {} shard{}\n",
             folder.path(),
             index.tokens(),
             index.documents(),
             index.shards.size(),
             index.shards.size() == 1 ? "" : "s");
  fmt::print("tokenizer {} ({}), vocabulary {}, end of document {}\n",
             index.tokenizer,
             Hex(index.tokenizer_xxh3),
             index.vocab_size,
             index.eos_id);
  const LengthHistogram lengths = DocumentLengths(folder);
  fmt::print("document length in tokens: shortest {}, mean {:.1f}, longest {}\n",
             lengths.shortest,
             lengths.mean,
             lengths.longest);
  const int64_t most = *std::max_element(lengths.counts.begin(), lengths.counts.end());
  for (size_t bin = 0; bin < lengths.counts.size(); ++bin) {
    const double share = static_cast<double>(lengths.counts[bin]) / static_cast<double>(most);
    fmt::print("  {:>10} - {:<10} {:>10} {}\n",
               uint64_t{1} << bin,
               (uint64_t{2} << bin) - 1,
               lengths.counts[bin],
               std::string(static_cast<size_t>(share * kBarWidth), '#'));
  }
  const int64_t document = std::min(options.document, index.documents() - 1);
  fmt::print("document {}:\n{}\n\n", document, SampleText(folder, document, options.tokens));
}

void Inspect(const InspectOptions& options) {
  const std::vector<std::string> parts = ShardFoldersIn(options.folder);
  const ShardFolder train(parts.front());
  PrintFolder(train, options);
  const std::string second = parts.size() > 1 && options.validation.empty() ? parts.back() : options.validation;
  if (second.empty()) {
    return;
  }
  const ShardFolder validation(second);
  PrintFolder(validation, options);
  const CrossEntropy entropy = MeasureCrossEntropy(train, validation);
  fmt::print("cross-entropy of {} tokens of {} under counts of {} tokens of {}:\n",
             entropy.validation_tokens,
             validation.path(),
             entropy.train_tokens,
             train.path());
  fmt::print("  unigram {:.4f} nats a token\n  bigram  {:.4f} nats a token\n", entropy.unigram, entropy.bigram);
  fmt::print("  4-gram  {:.4f} nats a token (Witten-Bell, {})\n",
             entropy.ngram,
             entropy.ngram_tokens == entropy.train_tokens
                 ? "the same counts"
                 : fmt::format("counts of the first {} tokens", entropy.ngram_tokens));
}

}  // namespace

void AddDataInspectCommand(CLI::App& data) {
  CLI::App* command = data.add_subcommand("inspect", "Show what token shards hold");
  const auto options = std::make_shared<InspectOptions>();
  command->add_option("DIR", options->folder, "A shard folder, or a folder that holds train and validation")
      ->required();
  command->add_option("--validation", options->validation, "Shard folder to measure under the counts of DIR");
  command->add_option("--document", options->document, "Number of the document to show, from 0")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->add_option("--tokens", options->tokens, "How many of its tokens to show at most")
      ->capture_default_str()
      ->check(WholeNumber(0));
  command->footer(kExamples);
  command->callback([options] { Inspect(*options); });
}

}  // namespace ksa
