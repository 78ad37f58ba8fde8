// The progress bar that replaces the log line on a terminal.
#pragma once

#include <string>
#include <vector>

#include "trainer/observe/step_report.h"
#include "trainer/observe/validation_result.h"

namespace ksa {

// One line of at most `width` columns: bar, percentage, step, loss, the last validation (empty: there was none), tok/s,
// ETA. Where not all of it fits whole parts are left out: first the bar, last the percentage.
[[nodiscard]] std::string FormatProgressBar(const StepReport& report,
                                            const std::vector<ValidationResult>& validation,
                                            int width);

}  // namespace ksa
