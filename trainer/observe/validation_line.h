// A validation for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/observe/validation_result.h"

namespace ksa {

// The rows under the log line of update `step` of `max_steps`, one a source:
// validation    250/2000 | books 1.9876 +- 0.0123 nats a token | 2.867 bits | perplexity 7.30 | 256 of 4031 samples
[[nodiscard]] std::vector<std::string> FormatValidation(const std::vector<ValidationResult>& results,
                                                        int64_t step,
                                                        int64_t max_steps);

// The rows of tasks under them:
// task          250/2000 | recall 0.9312 of 8160 answers in 256 samples | solved at 200
[[nodiscard]] std::vector<std::string> FormatTasks(const std::vector<TaskResult>& results,
                                                   int64_t step,
                                                   int64_t max_steps);

// Nats to bits.
[[nodiscard]] double BitsOf(double nats);

// "7.30": as few digits behind the point as leave three in all; "1.23e+05" where they are many.
[[nodiscard]] std::string FormatPerplexity(double nats);

}  // namespace ksa
