// A line on a terminal's stderr that shows how far a long task is; where stderr is no terminal, a line a minute.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "data/tools/terminal_line.h"

namespace ksa {

class ProgressBar {
 public:
  // `total` bytes are to be done, of which an earlier process did `before`.
  ProgressBar(std::string label, int64_t total, int64_t before = 0);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();  // clears the line

  void Show(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  int64_t total_;
  int64_t before_;
  bool visible_;
  TerminalLine line_;
  Clock::time_point begin_;
  Clock::time_point shown_;
};

}  // namespace ksa
