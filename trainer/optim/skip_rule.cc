#include "trainer/optim/skip_rule.h"

#include <algorithm>

namespace ksa {

SkipRule::SkipRule(const TrainingConfig& config, const SkipState& state)
    : skips_nonfinite_(config.on_nonfinite == OnNonfinite::kSkip),
      factor_(config.spike_factor),
      most_(config.max_skips),
      in_a_row_(state.in_a_row) {
  if (factor_ > 0.0) {
    const size_t kept = std::min(state.norms.size(), kNorms);
    norms_.assign(state.norms.end() - static_cast<std::ptrdiff_t>(kept), state.norms.end());
    FindMost();
  }
}

void SkipRule::Applied(double grad_norm) {
  in_a_row_ = 0;
  if (factor_ == 0.0) {
    return;
  }
  norms_.push_back(grad_norm);
  if (norms_.size() > kNorms) {
    norms_.pop_front();
  }
  FindMost();
}

bool SkipRule::Skipped(bool finite) {
  ++in_a_row_;
  return (finite || skips_nonfinite_) && in_a_row_ <= most_;
}

// Updates without a target have a norm of 0: where they are the rule, nothing is a spike.
void SkipRule::FindMost() {
  most_norm_ = std::numeric_limits<double>::infinity();
  if (norms_.size() < kFewestNorms) {
    return;
  }
  std::vector<double> sorted(norms_.begin(), norms_.end());
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  const double median = sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  if (median > 0.0) {
    most_norm_ = factor_ * median;
  }
}

}  // namespace ksa
