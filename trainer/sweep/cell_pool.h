// Runs the cells of a sweep, several at a time: processes, what they are told, and what came of them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trainer/config/sweep.h"
#include "trainer/evaluate/child_process.h"
#include "trainer/evaluate/selection.h"
#include "trainer/run/stop_signal.h"
#include "trainer/sweep/progress_view.h"

namespace ksa {

// How the pool does what it does.
struct CellPoolOptions {
  int jobs = 1;
  std::function<ChildCommand(size_t cell, int job)> command;  // what runs a cell as job 0 .. jobs - 1
  std::function<std::string(int job)> gpu;                    // of a job, for people; may be empty
  std::function<void(const std::string& line)> say;
  // A picture of what runs, about once a second; empty: none is drawn.
  std::function<void(const std::vector<RunningCell>& running, const SweepCounts& counts)> draw;
  bool apart = false;  // cells write elsewhere: their ends are said here as well
};

class CellPool {
 public:
  // `codes`: one a cell, of what ran before; those that have not run (kCellNotRun) do. `sweep` outlives the pool.
  CellPool(const Sweep& sweep, std::vector<int> codes, CellPoolOptions options);

  // Until no cell is left that may run. Once a stop is asked for, or a cell was stopped by itself, no other is started,
  // those that run are asked to stop, and their ends are waited for. Returns a code a cell; of those that a stop ended,
  // as who asked has it, or as they say themselves.
  [[nodiscard]] std::vector<int> Run(const StopSignal& stop);

 private:
  using Clock = std::chrono::steady_clock;

  struct Job {
    size_t cell = 0;
    Clock::time_point start;
    std::unique_ptr<ChildProcess> child;  // null: the job is free
  };

  [[nodiscard]] std::optional<size_t> NextCell() const;
  [[nodiscard]] SweepCounts Counts() const;
  [[nodiscard]] std::string TitleOf(size_t cell) const;
  [[nodiscard]] bool AnyRuns() const;
  void StartFree();
  void Start(int job, size_t cell);
  void TakeEnded(const StopSignal& stop);
  void End(Job& job, int code);
  void AskAllToStop();
  void Draw();

  const Sweep& sweep_;
  CellPoolOptions options_;
  std::vector<CellScore> scores_;
  std::vector<CellRole> roles_;
  std::vector<char> started_;  // by cell: it runs, or ran
  std::vector<Job> jobs_;
  Clock::time_point start_;
  Clock::time_point drawn_;
  int64_t ended_ = 0;
  bool stopping_ = false;
};

// 85 or 86 of `ksa train`.
[[nodiscard]] bool IsStopCode(int code);

}  // namespace ksa
