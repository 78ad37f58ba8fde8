// The updates of one attempt, one after the other: batch, learning rate, update, report.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "data/loader/batch_stream.h"
#include "data/loader/dataset.h"
#include "trainer/config/config.h"
#include "trainer/loop/progress.h"
#include "trainer/observe/logger.h"
#include "trainer/observe/step_report.h"
#include "trainer/optim/skip_rule.h"
#include "trainer/step/batch_flops.h"
#include "trainer/step/runtime.h"
#include "trainer/step/training_state.h"

namespace ksa {

struct UpdateSpan {
  int64_t done = 0;    // updates that were done before
  int64_t last = 0;    // update after which the attempt ends
  int64_t traced = 0;  // update of which a trace is written; 0: none
  std::string trace;   // the trace's file
  SkipState skips;     // of the updates that were done before
};

class UpdateRunner {
 public:
  // All must outlive it. `host`: that this rank runs on.
  UpdateRunner(const Config& config,
               Runtime& runtime,
               const Dataset& dataset,
               TrainingState& state,
               Logger& logger,
               const UpdateSpan& span,
               std::string host);

  // Runs the next update, which may be skipped (SkipRule). The report lacks timing. Error(kDiverged) when loss or
  // gradient norm are not finite and updates are not skipped, or too many were;
  // kBadData for a damaged block.
  [[nodiscard]] StepReport Next();

  // Time between Pause and Continue is no update's.
  void Pause() { progress_.Pause(); }

  void Continue() { progress_.Continue(); }

  // Timing, memory and utilisation of a report about the updates since the last one.
  void FillTiming(StepReport& report);

  // For a checkpoint: what is known of the updates that are done.
  [[nodiscard]] SkipState Skips() const { return skips_.state(); }

  // Over all updates whose timing was filled.
  [[nodiscard]] double TokensPerSecond() const { return progress_.TokensPerSecond(); }

 private:
  void CheckSameTargets(const Batch& batch, int64_t update);
  [[nodiscard]] UpdateOutcome RunTraced(const Batch& batch, int64_t update, double lr);
  void Skip(int64_t update, const UpdateOutcome& outcome);
  [[noreturn]] void FailDiverged(int64_t update, const UpdateOutcome& outcome) const;

  const Config& config_;
  Runtime& runtime_;
  TrainingState& state_;
  Logger& logger_;
  UpdateSpan span_;
  std::string host_;
  std::optional<double> peak_flops_;  // of this rank's device; none: unknown
  BatchFlops flops_;
  Progress progress_;
  BatchStream batches_;
  SkipRule skips_;
  int64_t done_;
};

// Text tokens of the global batch.
[[nodiscard]] int64_t TokensAnUpdate(const Config& config);

}  // namespace ksa
