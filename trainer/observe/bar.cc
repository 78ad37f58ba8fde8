#include "trainer/observe/bar.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "data/tools/terminal_line.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

// "val 1.9876", or "val books 1.9876, wiki 2.1043".
std::string DescribeValidation(const std::vector<ValidationResult>& validation) {
  std::string text;
  for (const ValidationResult& result : validation) {
    text += fmt::format("{}{}{}{:.4f}",
                        text.empty() ? "val " : ", ",
                        validation.size() > 1 ? result.name : "",
                        validation.size() > 1 ? " " : "",
                        result.loss);
  }
  return text;
}

}  // namespace

std::string FormatProgressBar(const StepReport& report, const std::vector<ValidationResult>& validation, int width) {
  const double done =
      report.max_steps > 0
          ? std::clamp(static_cast<double>(report.step) / static_cast<double>(report.max_steps), 0.0, 1.0)
          : 0.0;
  const bool timed = report.tokens_per_second > 0;  // else it is not known yet
  return FormatBar(done,
                   {{fmt::format("{:3.0f}%", std::floor(100 * done)), 0},
                    {fmt::format("step {}/{}", report.step, report.max_steps), 2},
                    {fmt::format("loss {:.4f}", report.loss), 1},
                    {DescribeValidation(validation), 4},
                    {timed ? FormatCount(report.tokens_per_second) + " tok/s" : "", 5},
                    {timed ? "eta " + FormatDuration(report.eta_seconds) : "", 3}},
                   width);
}

}  // namespace ksa
