// Timing of updates between two reports.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "trainer/observe/step_report.h"

namespace ksa {

class Progress {
 public:
  // `tokens_per_update`: text tokens of a global batch. `last_update`: of this attempt, for the ETA. `peak_flops`: of
  // this rank's device, a second; none: unknown.
  Progress(int64_t tokens_per_update, int64_t last_update, std::optional<double> peak_flops = std::nullopt);

  // Call after every update. `forward_flops`: of this rank's samples; not read where no peak is known.
  void Add(double data_wait_ms, double comm_wait_ms, double forward_flops);

  // Fills the timing of a report about all updates since the last report, and starts the next span. Time spent between
  // updates on validation and checkpoints does not count as update time: call Pause before it and Continue after it.
  void Fill(StepReport& report);
  void Pause();
  void Continue();

  // Text tokens a second over all updates that were reported, time between updates not counted; 0 before the first.
  [[nodiscard]] double TokensPerSecond() const;

 private:
  using Clock = std::chrono::steady_clock;

  int64_t tokens_per_update_;
  int64_t last_update_;
  std::optional<double> peak_flops_;
  Clock::time_point start_;
  Clock::time_point span_start_;
  double span_ms_ = 0.0;
  double reported_ms_ = 0.0;
  int64_t reported_updates_ = 0;
  int64_t span_updates_ = 0;
  double data_wait_ms_ = 0.0;
  double comm_wait_ms_ = 0.0;
  double forward_flops_ = 0.0;
};

}  // namespace ksa
