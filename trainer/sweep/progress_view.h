// How far cells are that run side by side, for a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "trainer/config/sweep.h"

namespace ksa {

struct RunningCell {
  size_t cell = 0;
  int job = 0;
  std::string gpu;     // as CUDA_VISIBLE_DEVICES has it; empty: not one of its own
  double seconds = 0;  // since it was started
};

struct SweepCounts {
  int64_t done = 0;
  int64_t failed = 0;
  int64_t left = 0;      // that have not been started, and as far as is known will be
  int64_t rejected = 0;  // that `select` leaves out
  double seconds_left = -1;
};

// A row a running cell (update, loss, speed, from the end of its metrics.jsonl), at most `most`, and a line of counts;
// in `width` columns.
[[nodiscard]] std::vector<std::string> ProgressLines(const Sweep& sweep,
                                                     const std::vector<RunningCell>& running,
                                                     const SweepCounts& counts,
                                                     int width,
                                                     size_t most = 16);

// "3 done, 1 failed, 4 to run, about 12m05s"
[[nodiscard]] std::string FormatCounts(const SweepCounts& counts);

// Lines at the end of a terminal that are drawn again and again.
class TerminalBlock {
 public:
  explicit TerminalBlock(std::FILE* to) : to_(to) {}

  void Show(const std::vector<std::string>& lines);

  // Removes them: what is printed next stands in their place.
  void Clear();

 private:
  std::FILE* to_;
  size_t shown_ = 0;
};

}  // namespace ksa
