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
  const auto [entry, is_new] = errors_.try_emplace(quantity);
  if (is_new) {
    order_.push_back(quantity);
  }
  double& kept = entry->second[tensor];
  kept = std::max(kept, error);
  if (!(error <= bound)) {
    Fail(fmt::format("{} {} is off by {:.1e}, allowed {:.0e}", quantity, tensor, error, bound));
  }
}

double Report::Twice(const std::string& quantity, const std::string& tensor, double floor) const {
  const auto errors = errors_.find(quantity);
  if (errors == errors_.end() || errors->second.count(tensor) == 0) {
    return floor;
  }
  double squares = 0.0;
  for (const auto& [name, error] : errors->second) {
    squares += error * error;
  }
  const double typical = std::sqrt(squares / static_cast<double>(errors->second.size()));
  const double allowed = 2.0 * std::max(typical, errors->second.at(tensor)) + floor;
  return std::isfinite(allowed) ? allowed : floor;
}

std::string Report::Text() const {
  std::string text;
  for (const std::string& quantity : order_) {
    const Errors& errors = errors_.at(quantity);
    const auto [tensor, error] = *std::max_element(
        errors.begin(), errors.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    text += fmt::format("{}{} {:.1e}", text.empty() ? "" : ", ", quantity, error);
    if (error > 0.0 && !tensor.empty()) {
      text += fmt::format(" ({})", tensor);
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
