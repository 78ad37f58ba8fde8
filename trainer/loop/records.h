// What rank 0 writes of a run while it trains.
#pragma once

#include <optional>

#include "trainer/config/config.h"
#include "trainer/observe/logger.h"
#include "trainer/observe/metrics.h"
#include "trainer/observe/step_report.h"
#include "trainer/observe/tensorboard.h"
#include "trainer/run/run_folder.h"

namespace ksa {

// metrics.jsonl and TensorBoard's events. A disk that is full ends nothing: lines wait in memory (AppendFile), which is
// warned of when it begins and said when it ends. `logger` must outlive it.
class RunRecords {
 public:
  // TensorBoard gets the configuration as a text. Error(kCannotCreate), kIo.
  RunRecords(const RunFolder& folder, const Config& config, Logger& logger);

  // Error(kIo) when too many lines wait.
  void Write(const StepReport& report);

  // What was written is on the disk when the call returns, the log included. Error(kIo).
  void Sync();

 private:
  void Tell(AppendFile& file, bool& waits);

  Logger& logger_;
  MetricsWriter metrics_;
  std::optional<TensorboardWriter> tensorboard_;
  bool metrics_wait_ = false;
  bool events_wait_ = false;
};

}  // namespace ksa
