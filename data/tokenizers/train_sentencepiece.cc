#include "data/tokenizers/train_sentencepiece.h"

#include <unordered_map>

#include <fmt/core.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "kernels/core/error.h"
#include "kernels/core/threads.h"

namespace ksa {
namespace {

class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::function<bool(std::string&)>& next) : next_(next) { Lines::Next(); }

  [[nodiscard]] bool done() const override { return done_; }

  void Next() override { done_ = !next_(line_); }

  [[nodiscard]] const std::string& value() const override { return line_; }

  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::function<bool(std::string&)>& next_;
  std::string line_;
  bool done_ = false;
};

}  // namespace

std::string TrainSentencePiece(const SentencePieceTraining& training, const std::function<bool(std::string&)>& next) {
  Lines lines(next);
  if (lines.done()) {
    Fail(ExitCode::kBadData, "there is no text to train a tokenizer on");
  }
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", training.kind == SentencePieceKind::kBpe ? "bpe" : "unigram"},
      {"vocab_size", fmt::format("{}", training.vocab_size)},
      {"byte_fallback", training.byte_fallback ? "true" : "false"},
      {"character_coverage", fmt::format("{}", training.character_coverage)},
      {"input_sentence_size", fmt::format("{}", training.max_sentences)},
      {"shuffle_input_sentence", "true"},
      {"num_threads", fmt::format("{}", training.threads)},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"pad_id", "-1"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"max_sentence_length", fmt::format("{}", kLongestTrainingLine)},
      {"minloglevel", "2"},
  };
  CheckThreadsStart(training.threads);
  sentencepiece::SetRandomGeneratorSeed(1);  // of the lines that are kept when there are more than max_sentences
  std::string model;
  const sentencepiece::util::Status status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
  if (!status.ok()) {
    Fail(ExitCode::kBadData,
         "SentencePiece cannot train a vocabulary of {}: {}. Take more text or another --vocab-size",
         training.vocab_size,
         status.ToString());
  }
  return model;
}

}  // namespace ksa
