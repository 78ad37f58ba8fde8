// A limit of time that a run keeps by stopping early enough to save.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace ksa {

class WallLimit {
 public:
  using Clock = std::chrono::steady_clock;

  // `minutes` after `start` (of the program) the run must have ended; none: it may take as long as it wants.
  // `first_save_seconds`: what a save is thought to take until one was made.
  WallLimit(std::optional<double> minutes, Clock::time_point start, double first_save_seconds);

  // How long an update and a save took; the longest of each counts.
  void TookUpdate(double seconds);
  void TookSave(double seconds);

  // Whether one save is under way now, which the end would wait for before its own.
  void SavePending(bool pending) { pending_ = pending; }

  // Whether one more update and a save might not end in time.
  [[nodiscard]] bool Reached() const { return Reached(Clock::now()); }

  [[nodiscard]] bool Reached(Clock::time_point now) const;

  // "run.max_wall_minutes, 90".
  [[nodiscard]] std::string Reason() const;

 private:
  std::optional<double> minutes_;
  Clock::time_point start_;
  double update_seconds_ = 0.0;
  double save_seconds_;
  bool saved_ = false;
  bool pending_ = false;
};

}  // namespace ksa
