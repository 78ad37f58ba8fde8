#include "trainer/loop/summarize_run.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "data/tokenizers/tokenizer.h"
#include "trainer/evaluate/bytes_per_target.h"
#include "trainer/loop/next_commands.h"
#include "trainer/loop/update_runner.h"
#include "trainer/observe/run_history.h"

namespace ksa {
namespace {

// Tokens that are looked at for bits a byte: a run that was asked to stop has no minute for a whole corpus.
constexpr int64_t kMostSpelt = int64_t{1} << 22;

// The result of a source in a validation of this start; null: another start made it.
const ValidationResult* ResultOf(const RunFigures& figures, int64_t step, const std::string& name) {
  const auto validation = figures.validations.find(step);
  if (validation == figures.validations.end()) {
    return nullptr;
  }
  const auto result = std::find_if(validation->second.begin(), validation->second.end(), [&](const auto& candidate) {
    return candidate.name == name;
  });
  return result == validation->second.end() ? nullptr : &*result;
}

SourceSummary::Row RowOf(const RunFigures& figures, const RunHistory::AtUpdate& at, const std::string& name) {
  const ValidationResult* result = ResultOf(figures, at.step, name);
  return {at.step, at.loss, result == nullptr ? std::nullopt : result->standard_error};
}

EvenSamples SpeltOf(const EvenSamples& samples, const Config& config) {
  const int64_t most = std::max<int64_t>(1, kMostSpelt / config.training.sequence_length);
  return TakeEvenly(std::min(samples.taken, most), samples.there);
}

// Of the sources of now, those that were ever validated.
std::vector<SourceSummary> SummarizeSources(const SummaryInput& input,
                                            const RunHistory& history,
                                            const Tokenizer* tokenizer) {
  std::vector<SourceSummary> summaries;
  const std::vector<SourceInfo>& sources = input.dataset.validation_sources();
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto found = history.validation.find(sources[i].name);
    if (found == history.validation.end()) {
      continue;
    }
    const EvenSamples samples = sources[i].Take(ValidationSamples(input.config));
    const bool spelt = tokenizer != nullptr && !sources[i].endless();
    summaries.push_back(
        {.name = sources[i].name,
         .last = RowOf(input.figures, found->second.last, sources[i].name),
         .best = RowOf(input.figures, found->second.best, sources[i].name),
         .samples_read = samples.taken,
         .samples_there = samples.there,
         .bytes_per_target =
             spelt ? BytesPerTarget(input.dataset, i, SpeltOf(samples, input.config), *tokenizer) : std::nullopt});
  }
  return summaries;
}

}  // namespace

RunSummary SummarizeRun(const SummaryInput& input) {
  const RunHistory history = ReadHistory(input.paths.Metrics());
  const std::unique_ptr<Tokenizer> tokenizer =
      input.dataset.HasTokenizer() ? OpenTokenizer(input.dataset.TokenizerPath()) : nullptr;
  const RunFigures& figures = input.figures;
  RunSummary summary = {.name = input.config.run.name,
                        .updates = input.updates,
                        .max_steps = input.config.training.max_steps,
                        .tokens = input.updates * TokensAnUpdate(input.config),
                        .seconds = history.seconds,
                        .starts = history.starts,
                        .tokens_per_second = {},
                        .training_loss = {},
                        .averaged = 1,
                        .validation = SummarizeSources(input, history, tokenizer.get()),
                        .checkpoint = figures.checkpoint,
                        .next = {}};
  if (figures.averaged > 0) {
    summary.training_loss = figures.training_loss;
    summary.averaged = figures.averaged;
    summary.tokens_per_second = figures.tokens_per_second;
  } else if (history.last) {
    summary.training_loss = history.last->loss;
  }
  summary.next = NextCommands(input.config,
                              input.invocation,
                              {.stopped = input.stopped,
                               .at_hard_stop = input.updates < input.config.training.max_steps && !input.stopped,
                               .has_checkpoint = !figures.checkpoint.empty(),
                               .spells_text = tokenizer != nullptr && tokenizer->SpellsText(),
                               .ranks = input.ranks});
  return summary;
}

}  // namespace ksa
