#include "tests/golden/report.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace ksa::testing {

double GoldenError(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) {
    return HUGE_VAL;
  }
  double largest = 0.0;
  double difference = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(actual[i] - expected[i]);
    if (std::isnan(d)) {
      return HUGE_VAL;
    }
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, d);
  }
  return largest == 0.0 ? difference : difference / largest;
}

void Report::Compare(const std::string& quantity,
                     const std::string& tensor,
                     const std::vector<double>& actual,
                     const std::vector<double>& expected,
                     double bound) {
  const double error = GoldenError(actual, expected);
  const auto [entry, is_new] = worst_.try_emplace(quantity);
  if (is_new) {
    order_.push_back(quantity);
  }
  if (is_new || error > entry->second.error) {
    entry->second = {error, tensor};
  }
  if (!(error <= bound)) {
    Fail(fmt::format("{} {} is off by {:.1e}, allowed {:.0e}", quantity, tensor, error, bound));
  }
}

std::string Report::Text() const {
  std::string text;
  for (const std::string& quantity : order_) {
    const Worst& worst = worst_.at(quantity);
    text += fmt::format("{}{} {:.1e}", text.empty() ? "" : ", ", quantity, worst.error);
    if (worst.error > 0.0 && !worst.tensor.empty()) {
      text += fmt::format(" ({})", worst.tensor);
    }
  }
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(failures_.size(), kShown); ++i) {
    text += fmt::format("\n      {}", failures_[i]);
  }
  if (failures_.size() > kShown) {
    text += fmt::format("\n      and {} more", failures_.size() - kShown);
  }
  return text.empty() ? "nothing was compared" : text;
}

}  // namespace ksa::testing
