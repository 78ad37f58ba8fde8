// Which updates are left out: those whose loss or gradient norm is not finite, and spikes of the norm.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace ksa {

// What the rule remembers of earlier updates; a checkpoint holds it, so that a resumed run decides alike.
struct SkipState {
  std::vector<double> norms;  // of the last updates that were applied, oldest first; empty without spike_factor
  int64_t in_a_row = 0;       // updates that were left out since the last one that was applied

  friend bool operator==(const SkipState&, const SkipState&) = default;
};

// A plain function of values that all ranks have alike (the reduced loss and norm of every update), so that all decide
// alike without asking each other.
class SkipRule {
 public:
  // Norms that the median is taken of, and the fewest of which it says anything.
  static constexpr size_t kNorms = 64;
  static constexpr size_t kFewestNorms = 8;

  SkipRule(const TrainingConfig& config, const SkipState& state);

  // The largest gradient norm with which the next update is applied: spike_factor times the median; infinite while
  // nothing is known. The host knows it before the update, so a GPU can decide without asking.
  [[nodiscard]] double most_norm() const { return most_norm_; }

  // The last update was applied.
  void Applied(double grad_norm);

  // The last update was left out. Whether the run goes on: `on_nonfinite: skip` or a spike, and at most max_skips in a
  // row.
  [[nodiscard]] bool Skipped(bool finite);

  [[nodiscard]] int64_t in_a_row() const { return in_a_row_; }

  [[nodiscard]] SkipState state() const { return {{norms_.begin(), norms_.end()}, in_a_row_}; }

 private:
  void FindMost();

  bool skips_nonfinite_;
  double factor_;  // 0: off
  int64_t most_;
  std::deque<double> norms_;
  int64_t in_a_row_;
  double most_norm_ = std::numeric_limits<double>::infinity();
};

}  // namespace ksa
