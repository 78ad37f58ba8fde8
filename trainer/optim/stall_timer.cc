#include "trainer/optim/stall_timer.h"

#include <chrono>

namespace ksa {

void StallTimer::Measure(const Stream& stream, Ordering ordering, const std::function<void()>& call) {
  if (!enabled_ || stream.dry) {
    call();
    return;
  }
  if (stream.device.IsCpu()) {
    const auto start = std::chrono::steady_clock::now();
    call();
    host_ms_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return;
  }
  if (ordering == Ordering::kUntilWait) {
    call();
    return;
  }
  if (used_ == spans_.size()) {
    spans_.push_back(std::make_unique<Span>());
  }
  Span& span = *spans_[used_++];
  span.begin.Record(stream);
  call();
  span.end.Record(stream);
}

double StallTimer::Take() {
  double sum = host_ms_;
  for (size_t i = 0; i < used_; ++i) {
    sum += spans_[i]->end.MillisecondsSince(spans_[i]->begin);
  }
  host_ms_ = 0.0;
  used_ = 0;
  return sum;
}

}  // namespace ksa
