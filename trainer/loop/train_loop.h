// The updates of a start that is committed, with what belongs between them: validation, records, checkpoints, requests.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "trainer/config/config.h"
#include "trainer/evaluate/validation.h"
#include "trainer/loop/committed_run.h"
#include "trainer/loop/open_tasks.h"
#include "trainer/loop/run_saves.h"
#include "trainer/loop/update_runner.h"
#include "trainer/observe/step_report.h"
#include "trainer/run/requests.h"

namespace ksa {

// How a run ended. Stopping is an end like any other, not an error.
struct RunEnd {
  ExitCode code = ExitCode::kDone;
  std::string message;  // what went wrong, or who stopped it; empty when the run is done
  bool failed = false;  // by an error, which other ranks may not have seen
};

// What a start knows of its own updates, for the summary at its end.
struct RunFigures {
  double training_loss = 0;  // mean over the last `averaged` updates
  int64_t averaged = 0;      // 0: no update was made
  double tokens_per_second = 0;
  std::map<int64_t, std::vector<ValidationResult>> validations;  // by update
  std::string checkpoint;                                        // the newest one that was saved; empty: none
};

// Update after which a run ends: max_steps, or an earlier hard_stop.
[[nodiscard]] int64_t LastUpdateOf(const Config& config);

// Samples that a validation reads of a source that has so many; none: all of them (evaluation.batches: all).
[[nodiscard]] std::optional<int64_t> ValidationSamples(const Config& config);

class TrainLoop {
 public:
  TrainLoop(const CommittedRun& run, const WallLimit& wall);

  // Trains to span.last or to a request to stop, and leaves a checkpoint there. Error(kDiverged), kBadData, kIo.
  [[nodiscard]] RunEnd Run();

  // After Run.
  [[nodiscard]] RunFigures Figures() const;

  [[nodiscard]] int64_t done() const { return done_; }

 private:
  void RunUpdates(Wish& wish, bool& skipped);

  [[nodiscard]] bool leads() const { return run_.runtime.world().rank() == 0; }

  // Each returns whether a validation that is due was left out, because of a request that `wish` then holds.
  [[nodiscard]] bool MakeSkippedValidation(Wish& wish);
  [[nodiscard]] bool RunOneUpdate(Wish& wish);

  [[nodiscard]] bool ValidationIsDue() const;
  [[nodiscard]] bool Validate(Wish& wish, StepReport& report);
  [[nodiscard]] bool MeasureTasks(const Evaluator::Interrupted& interrupted, StepReport& report);
  // Tasks that earlier starts have solved.
  void FindSolvedTasks();
  [[nodiscard]] RunEnd EndOf(const Wish& wish, bool skipped) const;
  void ConsumeRequests();

  CommittedRun run_;
  Requests requests_;
  Evaluator evaluator_;
  OpenTasks evaluated_;
  std::map<std::string, int64_t> solved_at_;
  RunSaves saves_;
  std::unique_ptr<UpdateRunner> updates_;
  int64_t done_;
  std::deque<double> losses_;  // of the last updates
  std::map<int64_t, std::vector<ValidationResult>> validations_;
};

}  // namespace ksa
