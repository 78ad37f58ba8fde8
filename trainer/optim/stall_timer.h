// How long a stream stands still because results of other ranks are not there yet.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/core/device.h"
#include "kernels/core/gpu.h"
#include "parallel/comm/communicator.h"

namespace ksa {

class StallTimer {
 public:
  // Not enabled: calls run, nothing is measured. For a rank that waits for nobody.
  explicit StallTimer(bool enabled) : enabled_(enabled) {}

  // Makes a call of a communicator. On the CPU its duration counts. On a GPU it is the time from when the stream
  // arrives there to when it goes on; kUntilWait calls do not hold it up, so only the Wait after them is measured.
  void Measure(const Stream& stream, Ordering ordering, const std::function<void()>& call);

  // Milliseconds measured since the last time. The host must have waited for the stream.
  [[nodiscard]] double Take();

 private:
  struct Span {
    Event begin;
    Event end;
  };

  bool enabled_;
  double host_ms_ = 0.0;
  std::vector<std::unique_ptr<Span>> spans_;  // made once, used again in every update
  size_t used_ = 0;
};

}  // namespace ksa
