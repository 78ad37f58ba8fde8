#include "trainer/loop/progress.h"

#include <algorithm>

#include "model/ksa/cost.h"

namespace ksa {
namespace {

double Milliseconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

Progress::Progress(int64_t tokens_per_update, int64_t last_update, std::optional<double> peak_flops)
    : tokens_per_update_(tokens_per_update),
      last_update_(last_update),
      peak_flops_(peak_flops),
      start_(Clock::now()),
      span_start_(start_) {}

void Progress::Add(double data_wait_ms, double comm_wait_ms, double forward_flops) {
  ++span_updates_;
  data_wait_ms_ += data_wait_ms;
  comm_wait_ms_ += comm_wait_ms;
  forward_flops_ += forward_flops;
}

void Progress::Pause() {
  span_ms_ += Milliseconds(Clock::now() - span_start_);
}

void Progress::Continue() {
  span_start_ = Clock::now();
}

void Progress::Fill(StepReport& report) {
  const double updates = static_cast<double>(std::max<int64_t>(1, span_updates_));
  report.step_ms = span_ms_ / updates;
  report.tokens_per_second =
      report.step_ms > 0.0 ? static_cast<double>(tokens_per_update_) / report.step_ms * 1e3 : 0.0;
  report.data_wait_ms = data_wait_ms_ / updates;
  report.comm_wait_ms = comm_wait_ms_ / updates;
  report.mfu = Mfu(forward_flops_, span_ms_ / 1e3, peak_flops_);
  report.seconds = Milliseconds(Clock::now() - start_) / 1e3;
  report.eta_seconds = static_cast<double>(last_update_ - report.step) * report.step_ms / 1e3;
  reported_ms_ += span_ms_;
  reported_updates_ += span_updates_;
  span_ms_ = 0.0;
  span_updates_ = 0;
  data_wait_ms_ = 0.0;
  comm_wait_ms_ = 0.0;
  forward_flops_ = 0.0;
}

double Progress::TokensPerSecond() const {
  return reported_ms_ > 0.0 ? static_cast<double>(reported_updates_ * tokens_per_update_) / reported_ms_ * 1e3 : 0.0;
}

}  // namespace ksa
