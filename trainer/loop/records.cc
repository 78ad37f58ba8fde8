#include "trainer/loop/records.h"

#include <fmt/core.h>

#include "trainer/config/load.h"

namespace ksa {

RunRecords::RunRecords(const RunFolder& folder, const Config& config, Logger& logger)
    : logger_(logger), metrics_(folder.paths().Metrics(), folder.run_id(), folder.attempt()) {
  if (config.logging.tensorboard) {
    tensorboard_.emplace(folder.paths().Tensorboard());
    tensorboard_->WriteText("configuration", RenderConfig(config));
  }
}

void RunRecords::Write(const StepReport& report) {
  metrics_.Write(report);
  Tell(metrics_.file(), metrics_wait_);
  if (tensorboard_) {
    tensorboard_->Write(report);
    Tell(tensorboard_->file(), events_wait_);
  }
}

void RunRecords::Sync() {
  metrics_.file().Sync();
  Tell(metrics_.file(), metrics_wait_);
  if (AppendFile* log = logger_.file(); log != nullptr && log->trouble().empty()) {
    log->Sync();  // a log that cannot be written is no reason to lose a checkpoint
  }
}

void RunRecords::Tell(AppendFile& file, bool& waits) {
  const bool trouble = !file.trouble().empty();
  if (trouble && !waits) {
    logger_.Warn(fmt::format(
        "{}: cannot be written: {}; what is to be written waits in memory: make room", file.path(), file.trouble()));
  } else if (!trouble && waits) {
    logger_.Info(fmt::format("{}: written again, nothing is missing", file.path()));
  }
  waits = trouble;
}

}  // namespace ksa
