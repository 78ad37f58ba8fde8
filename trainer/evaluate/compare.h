// Two runs side by side: metrics at the updates that both logged, and weights where both have a checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/evaluate/compare_tensors.h"
#include "trainer/observe/metrics.h"

namespace ksa {

struct CompareRule {
  double rtol = 0;      // 0: equal in bits; else |a - b| <= rtol * max(|a|, |b|)
  bool strict = false;  // the same updates must be logged, and moments are compared as well
};

struct ComparedRun {
  std::string path;  // run folder
  std::vector<MetricsLine> metrics;
};

// One quantity over the updates that both runs logged. A validation loss may be in one run alone: a stop measures one
// more, off the interval. That is a difference in bits, and none under rtol, which is about the size of values.
struct QuantityDifference {
  std::string quantity;                    // tokens, loss, grad_norm, lr, validation_loss/<source>
  std::optional<int64_t> first_different;  // update; none: equal by the rule
  std::optional<double> a;                 // the values there; none: the run has none
  std::optional<double> b;
  double largest_relative = 0;  // over all that was compared; infinite when only one is there or finite
  int64_t only_in_a = 0;        // common updates of which one run alone has a value
  int64_t only_in_b = 0;
};

struct RunDifference {
  int64_t common_updates = 0;
  int64_t only_in_a = 0;  // updates that one run alone logged
  int64_t only_in_b = 0;
  std::vector<QuantityDifference> quantities;
  std::optional<int64_t> checkpoint_step;  // the newest step of which both have a checkpoint
  int64_t compared_tensors = 0;
  std::vector<TensorDifference> tensors;  // that differ by the rule
  bool differs = false;
};

// Error(kMissingInput) when it is no run folder or has no metrics.
[[nodiscard]] ComparedRun OpenComparedRun(const std::string& path);

[[nodiscard]] RunDifference CompareRuns(const ComparedRun& a, const ComparedRun& b, const CompareRule& rule);

}  // namespace ksa
