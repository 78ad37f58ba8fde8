#include "trainer/loop/dry_run.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/evaluate/validation.h"
#include "trainer/loop/open_tasks.h"
#include "trainer/loop/train_loop.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

// Forward passes of a rank that are timed of every source; the first of them is not counted.
constexpr int64_t kTimedPasses = 3;

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// How often something comes in the updates done + 1 ... last, which comes every `interval` updates and after the last.
int64_t TimesDue(int64_t done, int64_t last, int64_t interval) {
  return last / interval - done / interval + (last % interval == 0 ? 0 : 1);
}

// Seconds of one validation, from some samples of each source.
double TimeValidation(const Config& config, Runtime& runtime, const Dataset& dataset, KsaModel& model, double mix) {
  Evaluator evaluator(runtime, model, dataset, *config.training.micro_batch_size);
  const int64_t a_pass = int64_t{*config.training.micro_batch_size} * runtime.mesh().shape().data;
  double seconds = 0;
  for (size_t i = 0; i < dataset.validation_sources().size(); ++i) {
    const SourceInfo& source = dataset.validation_sources()[i];
    const int64_t wanted = source.Take(ValidationSamples(config)).taken;
    static_cast<void>(evaluator.Run(i, source.Take(std::min(wanted, a_pass)), mix));
    const int64_t timed = std::min(wanted, a_pass * (kTimedPasses - 1));
    const auto begin = std::chrono::steady_clock::now();
    static_cast<void>(evaluator.Run(i, source.Take(timed), mix));
    seconds += SecondsSince(begin) * static_cast<double>(wanted) / static_cast<double>(timed);
  }
  return seconds;
}

// Seconds of one measurement of all tasks, from some samples of each.
double TimeTasks(const Config& config, Runtime& runtime, const Dataset& dataset, KsaModel& model, double mix) {
  const int64_t timed = int64_t{*config.training.micro_batch_size} * runtime.mesh().shape().data * (kTimedPasses - 1);
  const OpenTasks opened = OpenEvaluationTasks(config, runtime, dataset, model, timed);
  double seconds = 0;
  for (size_t i = 0; i < opened.tasks.size(); ++i) {
    TaskEvaluator& task = *opened.tasks[i];
    static_cast<void>(task.Run(mix));  // loads code
    const auto begin = std::chrono::steady_clock::now();
    static_cast<void>(task.Run(mix));
    seconds += SecondsSince(begin) * static_cast<double>(config.evaluation.tasks[i].samples) /
               static_cast<double>(task.samples());
  }
  return seconds;
}

std::string DescribeSteps(const DryRunFigures& figures, double step_ms) {
  const std::vector<double>& all = figures.step_ms;
  if (all.size() == 1) {
    return fmt::format("a step takes {:.1f} ms or less (one update is left; it also loads code)", step_ms);
  }
  std::vector<std::string> others;
  for (size_t i = 1; i < all.size(); ++i) {
    others.push_back(fmt::format("{:.1f}", all[i]));
  }
  return fmt::format("a step takes {:.1f} ms ({} ms; the first, {:.1f} ms, is not counted), {} tokens a second",
                     step_ms,
                     fmt::join(others, " and "),
                     all.front(),
                     FormatCount(static_cast<double>(figures.tokens_an_update) / step_ms * 1e3));
}

}  // namespace

std::vector<std::string> RenderDryRun(const DryRunFigures& figures) {
  const auto counted = figures.step_ms.begin() + (figures.step_ms.size() > 1 ? 1 : 0);
  const double step_ms =
      std::accumulate(counted, figures.step_ms.end(), 0.0) / static_cast<double>(figures.step_ms.end() - counted);
  const double training = static_cast<double>(figures.updates) * step_ms / 1e3;
  const double validating = static_cast<double>(figures.validations) * figures.validation_seconds.value_or(0.0);
  std::vector<std::string> lines = {DescribeSteps(figures, step_ms)};
  lines.push_back(fmt::format("the run takes about {}: {} updates in {}{}",
                              FormatDuration(training + validating),
                              figures.updates,
                              FormatDuration(training),
                              figures.validations > 0 && figures.validation_seconds
                                  ? fmt::format(", {} validations of {:.1f} s in {}",
                                                figures.validations,
                                                *figures.validation_seconds,
                                                FormatDuration(validating))
                                  : ""));
  lines.push_back(fmt::format("not counted: {} checkpoints of {}, which depend on the disk",
                              figures.checkpoints,
                              FormatBytes(figures.checkpoint_bytes)));
  lines.push_back(fmt::format("memory: {} of {}", FormatBytes(figures.memory), FormatBytes(figures.memory_total)));
  lines.push_back(fmt::format("dry run: {} {} done in memory, nothing written",
                              figures.step_ms.size(),
                              figures.step_ms.size() == 1 ? "update" : "updates"));
  return lines;
}

void DryRun(const Config& config,
            Runtime& runtime,
            const Dataset& dataset,
            TrainingState& state,
            Logger& logger,
            const UpdateSpan& span,
            const std::string& host) {
  DryRunFigures figures = {.tokens_an_update = TokensAnUpdate(config),
                           .updates = span.last - span.done,
                           .checkpoints = TimesDue(span.done, span.last, config.checkpoint.interval),
                           .checkpoint_bytes = CheckpointBytes(state.store)};
  UpdateRunner updates(config, runtime, dataset, state, logger, span, host);
  const int64_t made = std::min(figures.updates, kDryUpdates + (span.traced > 0 ? 1 : 0));
  for (int64_t i = 0; i < made; ++i) {
    updates.Continue();
    StepReport report = updates.Next();
    updates.Pause();
    updates.FillTiming(report);
    if (report.step != span.traced || made == 1) {
      figures.step_ms.push_back(report.step_ms);
    }
    logger.Info(FormatLogLine(report));
  }
  if (config.evaluation.interval > 0 && !(config.data.validation.empty() && config.evaluation.tasks.empty())) {
    const double mix = AnnealMix(config.model, span.done + 1);
    figures.validations = TimesDue(span.done, span.last, config.evaluation.interval);
    figures.validation_seconds = TimeValidation(config, runtime, dataset, state.model, mix) +
                                 TimeTasks(config, runtime, dataset, state.model, mix);
  }
  const MemoryStatus memory = runtime.Memory();
  figures.memory = runtime.world().Max(memory.used);
  figures.memory_total = memory.total;
  for (const std::string& line : RenderDryRun(figures)) {
    logger.Info(line);
  }
}

}  // namespace ksa
