// Trainer: a whole run, from an opened configuration to its last checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "data/loader/batch_stream.h"
#include "data/loader/dataset.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"
#include "trainer/evaluate/validation.h"
#include "trainer/loop/progress.h"
#include "trainer/observe/logger.h"
#include "trainer/observe/step_report.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/stop_signal.h"
#include "trainer/step/batch_flops.h"
#include "trainer/step/runtime.h"
#include "trainer/step/training_state.h"

namespace ksa {

// What the data module needs of a configuration.
[[nodiscard]] DatasetConfig DatasetConfigOf(const Config& config);

struct TrainerOptions {
  bool dry_run = false;  // nothing is ever written, but the trace
  std::optional<std::string>
      trace;                 // write a trace of one update to this file: the third, or the last if there are fewer
  std::string memory_table;  // of the plan for a GPU; logged with the summary
  std::string host = "localhost";  // that this rank runs on
};

class Trainer {
 public:
  // Opens the data, makes the model and its state, and finds out where to start. `config` is resolved for this world
  // (ResolveDevice, CheckAgainstRanks). Errors: kConfig (a resume that is not allowed), kBadData, kMissingInput,
  // kCannotCreate, kOutOfMemory.
  Trainer(const Config& config, Runtime& runtime, TrainerOptions options);

  // Trains to the end, to hard_stop or to a request to stop, which is Error(kStopped) after the checkpoint is written.
  // Error(kDiverged) when loss or gradient norm stop being finite.
  void Run();

 private:
  void OpenRunFolder();
  void LogRanks();
  void Resume();
  void AcceptCheckpoint(const Checkpoint& checkpoint);
  void LogSummary();
  void RunOneInMemory();
  void RunUpdates(int64_t last);
  void CheckSameTargets(const Batch& batch, int64_t update);
  [[nodiscard]] StepReport RunOneUpdate(BatchStream& batches, Progress& progress);
  [[nodiscard]] UpdateOutcome RunTraced(const Batch& batch, int64_t update, double lr);
  void FillReport(Progress& progress, StepReport& report);
  [[noreturn]] void FailStopped(const StopSignal& stop) const;
  void Save(int64_t update);
  [[nodiscard]] UpdateShare Share() const;
  [[nodiscard]] int64_t LastUpdate() const;
  [[nodiscard]] int64_t TracedUpdate() const;
  [[nodiscard]] double LearningRateAt(int64_t update) const;
  [[nodiscard]] int64_t TokensAnUpdate() const;
  [[noreturn]] void FailDiverged(int64_t update, const UpdateOutcome& outcome) const;

  Config config_;
  Runtime& runtime_;
  TrainerOptions options_;
  Logger logger_;
  Dataset dataset_;
  std::optional<RunFolder> folder_;  // none in a dry run
  TrainingState state_;
  Evaluator evaluator_;
  std::optional<double> peak_flops_;  // of this rank's device; none: unknown
  BatchFlops flops_;
  int64_t done_ = 0;     // updates done
  int64_t started_ = 0;  // updates done when this attempt began
};

}  // namespace ksa
