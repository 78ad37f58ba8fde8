#include "trainer/observe/validation_line.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/core.h>

namespace ksa {

double BitsOf(double nats) {
  return nats / std::numbers::ln2;
}

std::string FormatPerplexity(double nats) {
  const double perplexity = std::exp(nats);
  if (!std::isfinite(perplexity) || perplexity >= 1e5) {
    return fmt::format("{:.2e}", perplexity);
  }
  return fmt::format("{:.{}f}", perplexity, perplexity < 10 ? 2 : perplexity < 100 ? 1 : 0);
}

std::vector<std::string> FormatValidation(const std::vector<ValidationResult>& results,
                                          int64_t step,
                                          int64_t max_steps) {
  size_t widest = 0;
  for (const ValidationResult& result : results) {
    widest = std::max(widest, result.name.size());
  }
  std::vector<std::string> lines;
  for (const ValidationResult& result : results) {
    lines.push_back(fmt::format(
        "validation {:>6}/{} | {:<{}} {:.4f}{} nats a token | {:.3f} bits | perplexity {} | {} of {} samples",
        step,
        max_steps,
        result.name,
        widest,
        result.loss,
        result.standard_error ? fmt::format(" +- {:.4f}", *result.standard_error) : "",
        BitsOf(result.loss),
        FormatPerplexity(result.loss),
        result.samples_read,
        result.samples_there));
  }
  return lines;
}

}  // namespace ksa
