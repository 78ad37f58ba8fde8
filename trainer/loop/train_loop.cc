#include "trainer/loop/train_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <utility>

#include <fmt/core.h>

#include "trainer/checkpoint/agree.h"
#include "trainer/step/replicas.h"

namespace ksa {
namespace {

using Clock = std::chrono::steady_clock;

// Updates between two looks at what ranks hold alike; every save looks as well.
constexpr int64_t kCompareInterval = 200;

// Updates over which the training loss is averaged at the end: that of one batch says little.
constexpr size_t kAveraged = 100;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

int64_t LastUpdateOf(const Config& config) {
  return std::min(config.training.max_steps, config.training.hard_stop.value_or(config.training.max_steps));
}

std::optional<int64_t> ValidationSamples(const Config& config) {
  const std::optional<int32_t>& batches = config.evaluation.batches;
  return batches ? std::optional(int64_t{*batches} * config.training.global_batch_size) : std::nullopt;
}

TrainLoop::TrainLoop(const CommittedRun& run, const WallLimit& wall)
    : run_(run),
      requests_(run.runtime.world(), &run.folder, wall),
      evaluator_(run.runtime, run.state.model, run.dataset, *run.config.training.micro_batch_size),
      evaluated_(OpenEvaluationTasks(
          run.config, run.runtime, run.dataset, run.state.model, std::numeric_limits<int64_t>::max())),
      saves_(run, requests_.wall(), [this] { return updates_ != nullptr ? updates_->Skips() : run_.span.skips; }),
      done_(run.span.done) {
  FindSolvedTasks();
}

void TrainLoop::FindSolvedTasks() {
  if (evaluated_.tasks.empty() || !leads()) {
    return;
  }
  ForMetricsRows(run_.folder.paths().Metrics(), [&](const std::string& row) {
    if (row.find("\"task_accuracy\":") == std::string::npos) {
      return;  // most rows: parsing them all would take long
    }
    const std::optional<MetricsLine> line = ParseMetricsLine(row);
    for (const auto& [name, accuracy] : line ? line->report.task_accuracy : std::map<std::string, double>()) {
      if (accuracy >= kSolvedAccuracy && line->report.step <= done_) {
        const auto [solved, added] = solved_at_.try_emplace(name, line->report.step);
        solved->second = std::min(solved->second, line->report.step);
      }
    }
  });
}

RunEnd TrainLoop::Run() {
  Wish wish = requests_.Agree();
  bool skipped = MakeSkippedValidation(wish);
  if (done_ < run_.span.last && wish.stop == StopCause::kNone) {
    updates_ = std::make_unique<UpdateRunner>(
        run_.config, run_.runtime, run_.dataset, run_.state, run_.logger, run_.span, run_.host);
  }
  RunUpdates(wish, skipped);
  RunEnd end = EndOf(wish, skipped);
  ConsumeRequests();
  return end;
}

// Ranks see together that a run has diverged, and what was being saved then is good.
void TrainLoop::RunUpdates(Wish& wish, bool& skipped) {
  try {
    while (done_ < run_.span.last && wish.stop == StopCause::kNone) {
      skipped = RunOneUpdate(wish);
    }
  } catch (const Error& error) {
    if (error.code() == ExitCode::kDiverged) {
      saves_.Settle();
    }
    throw;
  }
}

RunFigures TrainLoop::Figures() const {
  const auto count = static_cast<int64_t>(losses_.size());
  return {.training_loss =
              std::accumulate(losses_.begin(), losses_.end(), 0.0) / static_cast<double>(std::max<int64_t>(count, 1)),
          .averaged = count,
          .tokens_per_second = updates_ == nullptr ? 0.0 : updates_->TokensPerSecond(),
          .validations = validations_,
          .checkpoint = saves_.checkpoint()};
}

bool TrainLoop::ValidationIsDue() const {
  const int64_t interval = run_.config.evaluation.interval;
  const bool something = !run_.config.data.validation.empty() || !evaluated_.tasks.empty();
  return interval > 0 && done_ > 0 && something && (done_ % interval == 0 || done_ == LastUpdateOf(run_.config));
}

// A stop leaves a validation out that is due, so that it saves in time; the row of that update then has none.
bool TrainLoop::MakeSkippedValidation(Wish& wish) {
  if (!ValidationIsDue()) {
    return false;
  }
  StepReport report;
  const std::string found = OnRankZero(run_.runtime.world(), [&] {
    const std::optional<MetricsLine> row = FindMetrics(run_.folder.paths().Metrics(), done_);
    if (!row || !row->report.validation_loss.empty() || !row->report.task_accuracy.empty()) {
      return std::string("made");
    }
    report = row->report;
    return std::string("skipped");
  });
  if (found == "made") {
    return false;
  }
  if (wish.stop != StopCause::kNone || !Validate(wish, report)) {
    return true;
  }
  if (leads()) {
    run_.records->Write(report);
    run_.logger.Info(fmt::format("the validation after update {}, which was left out:", done_));
    run_.logger.Validation(report.validation, done_, run_.config.training.max_steps);
    run_.logger.Tasks(report.tasks, done_, run_.config.training.max_steps);
  }
  return false;
}

bool TrainLoop::Validate(Wish& wish, StepReport& report) {
  const auto interrupted = [&] {
    wish = requests_.Agree();
    return wish.stop != StopCause::kNone;
  };
  auto results = evaluator_.RunAll(ValidationSamples(run_.config), AnnealMix(run_.config.model, done_), interrupted);
  if (!results || !MeasureTasks(interrupted, report)) {
    return false;
  }
  for (const ValidationResult& result : *results) {
    report.validation_loss[result.name] = result.loss;
  }
  report.validation = std::move(*results);
  validations_[done_] = report.validation;
  return true;
}

bool TrainLoop::MeasureTasks(const Evaluator::Interrupted& interrupted, StepReport& report) {
  for (const std::unique_ptr<TaskEvaluator>& task : evaluated_.tasks) {
    const std::optional<TaskScores> scores = task->Run(AnnealMix(run_.config.model, done_), interrupted);
    if (!scores) {
      return false;
    }
    TaskResult result = {.name = task->name(),
                         .accuracy = scores->all.Accuracy(),
                         .answers = scores->all.answers,
                         .samples = task->samples(),
                         .solved_at = std::nullopt};
    if (result.accuracy >= kSolvedAccuracy) {
      solved_at_.try_emplace(result.name, done_);
    }
    if (const auto solved = solved_at_.find(result.name); solved != solved_at_.end()) {
      result.solved_at = solved->second;
    }
    report.task_accuracy[result.name] = result.accuracy;
    report.tasks.push_back(std::move(result));
  }
  report.solved_at = solved_at_;
  return true;
}

bool TrainLoop::RunOneUpdate(Wish& wish) {
  const Clock::time_point begin = Clock::now();
  StepReport report = updates_->Next();
  done_ = report.step;
  if (std::isfinite(report.loss)) {  // else the update was skipped
    losses_.push_back(report.loss);
  }
  if (losses_.size() > kAveraged) {
    losses_.pop_front();
  }
  requests_.wall().TookUpdate(SecondsSince(begin));
  wish = requests_.Agree(saves_.StageIsOver());
  updates_->Pause();
  const bool due = ValidationIsDue();
  const bool skipped = due && (wish.stop != StopCause::kNone || !Validate(wish, report));
  const bool ending = done_ == run_.span.last || wish.stop != StopCause::kNone;
  if (leads() && (ending || due || done_ % run_.config.logging.interval == 0)) {
    updates_->FillTiming(report);
    run_.records->Write(report);
    run_.logger.Step(report);
  } else {
    run_.logger.Tick(report);
  }
  if (done_ % kCompareInterval == 0) {
    CompareReplicas(run_.state.store, run_.runtime.mesh(), run_.runtime.stream());
  }
  if (saves_.After(done_, wish, ending) && leads()) {
    run_.folder.ConsumeSave();
  }
  updates_->Continue();
  return skipped;
}

RunEnd TrainLoop::EndOf(const Wish& wish, bool skipped) const {
  const int64_t steps = run_.config.training.max_steps;
  if (done_ >= run_.span.last && !skipped) {
    if (done_ > run_.span.done) {
      run_.logger.Info(fmt::format("done: {} updates", done_));
    } else if (done_ > steps) {
      run_.logger.Info(fmt::format("the run is complete: {} updates are done, {} were asked for", done_, steps));
    } else {
      run_.logger.Info(fmt::format("the run is complete: {} of {} updates done", done_, steps));
    }
    return {};
  }
  return {.code = wish.stop == StopCause::kPerson ? ExitCode::kStoppedByPerson : ExitCode::kStopped,
          .message = fmt::format("stopped {} update {} by {}; run the same command again to {}",
                                 done_ > run_.span.done || skipped ? "after" : "before",
                                 done_ > run_.span.done || skipped ? done_ : done_ + 1,
                                 wish.reason,
                                 skipped ? "make the validation that is due, and to go on" : "go on"),
          .failed = false};
}

void TrainLoop::ConsumeRequests() {
  if (!leads()) {
    return;
  }
  try {
    requests_.Consume();
  } catch (const Error& error) {
    run_.logger.Warn(error.what());
  }
}

}  // namespace ksa
