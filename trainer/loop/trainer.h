// Trainer: a whole run, from its configuration to its last checkpoint. A start opens (data, model, run folder), decides
// (everything that can refuse it, agreed by all ranks) and commits (the first byte of the run folder), then trains.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/loader/dataset.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config.h"
#include "trainer/loop/records.h"
#include "trainer/loop/train_loop.h"
#include "trainer/observe/invocation.h"
#include "trainer/observe/logger.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/start.h"
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
  std::string micro_batch;   // what training.micro_batch_size: auto took; likewise
  std::string host = "localhost";  // that this rank runs on
  int64_t host_room = 0;           // bytes of host memory that this rank may take for asynchronous checkpoints
  Invocation invocation;           // for the log's header
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();  // of the program
};

class Trainer {
 public:
  // `config` is resolved for this world (ResolveDevice, CheckAgainstRanks). `logger` outlives the trainer; log.txt is
  // attached to it when the start is committed. Does nothing yet.
  Trainer(const Config& config, Runtime& runtime, Logger& logger, TrainerOptions options);

  // Trains to the end, to hard_stop or to a request to stop. Never throws: an error is an end too, and is in log.txt,
  // and the run folder is given back, before anything that may hang is taken down. Codes of a start that is refused: as
  // Dataset, RunFolder and DecideStart; later kDiverged, kBadData, kIo (a checkpoint that cannot be written).
  [[nodiscard]] RunEnd Run();

 private:
  [[nodiscard]] RunEnd RunAll();
  void Open();
  [[nodiscard]] Start Decide();
  void LoadState(const Start& start);
  void Commit(const Start& start);
  void AttachLog();
  void Announce(const Start& start);
  void LogRanks();
  [[nodiscard]] RunEnd RunInMemory(const UpdateSpan& span);
  [[nodiscard]] RunEnd RunUpdates();
  void ExportLast();
  void Summarize(const RunEnd& end);
  void Finish(const RunEnd& end) noexcept;

  Config config_;
  Runtime& runtime_;
  TrainerOptions options_;
  RunPaths paths_;
  Logger& logger_;
  CheckedCheckpoints checked_;
  std::unique_ptr<Dataset> dataset_;
  std::unique_ptr<TrainingState> state_;
  std::unique_ptr<RunFolder> folder_;    // none in a dry run
  std::unique_ptr<RunRecords> records_;  // rank 0, once the start is committed
  std::unique_ptr<TrainLoop> loop_;
  std::vector<std::string> load_notes_;           // what checkpoint.load made and left unused
  std::optional<CheckpointOrigin> resumed_from_;  // for manifests
  SkipState skips_;                               // of the updates that were done before
  int64_t done_ = 0;                              // updates that were done before this attempt
  std::string checkpoint_;                        // that it began from; empty: none
};

}  // namespace ksa
