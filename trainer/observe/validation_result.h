// What a validation found on one source.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ksa {

struct ValidationResult {
  std::string name;  // of the source
  double loss = 0;   // nats, mean over the targets; 0 where there are none
  // Of the loss, in nats, as the samples that were read spread around it; none where fewer than two have targets.
  std::optional<double> standard_error;
  int64_t samples_read = 0;
  int64_t samples_there = 0;
};

// What a validation found on one task.
struct TaskResult {
  std::string name;
  double accuracy = 0;  // 0..1: answers that are right
  int64_t answers = 0;
  int64_t samples = 0;
  std::optional<int64_t> solved_at;  // the update at which it was first seen solved, this one included
};

}  // namespace ksa
