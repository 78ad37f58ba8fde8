// A trace of operations in Chrome's format (chrome://tracing, ui.perfetto.dev): one row for the host that issues them
// and one for each stream of a device that runs them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "kernels/core/gpu.h"
#include "kernels/core/op.h"

namespace ksa {

class ChromeTrace final : public Tracer {
 public:
  ChromeTrace() : start_(Clock::now()) {}

  void Begin(const char* op, const Stream& stream) override;
  void End(const Stream& stream) noexcept override;

  // Waits for the device and writes the file. Error(kCannotCreate).
  void Write(const std::string& path) const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Span {
    const char* name = nullptr;
    const void* stream = nullptr;  // handle of a device stream; null: the host
    double issued = 0.0;           // microseconds since the start
    double returned = 0.0;
    std::unique_ptr<Event> begin;  // on the device
    std::unique_ptr<Event> end;
  };

  [[nodiscard]] double Now() const;

  Clock::time_point start_;
  std::vector<Span> spans_;
  std::vector<size_t> open_;  // spans that have not ended, innermost last
};

}  // namespace ksa
