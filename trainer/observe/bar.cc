#include "trainer/observe/bar.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <fmt/format.h>

#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

constexpr size_t kFewestCells = 8;
constexpr size_t kMostCells = 40;

struct Part {
  std::string text;
  int rank;  // parts of a higher one are left out earlier
};

std::string JoinUpTo(const std::vector<Part>& parts, int rank) {
  std::string text;
  for (const Part& part : parts) {
    if (part.rank <= rank && !part.text.empty()) {
      text += (text.empty() ? "" : " | ") + part.text;
    }
  }
  return text;
}

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
  const std::vector<Part> parts = {{fmt::format("{:3.0f}%", std::floor(100 * done)), 0},
                                   {fmt::format("step {}/{}", report.step, report.max_steps), 2},
                                   {fmt::format("loss {:.4f}", report.loss), 1},
                                   {DescribeValidation(validation), 4},
                                   {timed ? FormatCount(report.tokens_per_second) + " tok/s" : "", 5},
                                   {timed ? "eta " + FormatDuration(report.eta_seconds) : "", 3}};
  const size_t columns = width > 0 ? static_cast<size_t>(width) : 0;
  int rank = 5;
  std::string text = JoinUpTo(parts, rank);
  while (text.size() > columns && rank > 0) {
    text = JoinUpTo(parts, --rank);
  }
  if (columns < text.size() + kFewestCells + 3) {
    return text.substr(0, columns);
  }
  const size_t cells = std::min(columns - text.size() - 3, kMostCells);
  const auto full = static_cast<size_t>(done * static_cast<double>(cells));
  return fmt::format("[{}{}] {}", std::string(full, '#'), std::string(cells - full, '.'), text);
}

}  // namespace ksa
