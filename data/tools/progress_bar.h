// A line on a terminal's stderr that shows how far a long task is. Silent when stderr is no terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "data/tools/terminal_line.h"

namespace ksa {

class ProgressBar {
 public:
  // `total` bytes are to be done.
  ProgressBar(std::string label, int64_t total);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();  // clears the line

  void Show(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  int64_t total_;
  bool visible_;
  TerminalLine line_;
  Clock::time_point begin_;
  Clock::time_point shown_;
};

}  // namespace ksa
