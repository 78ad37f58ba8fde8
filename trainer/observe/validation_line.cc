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

namespace {

template <typename Result>
size_t WidestName(const std::vector<Result>& results) {
  size_t widest = 0;
  for (const Result& result : results) {
    widest = std::max(widest, result.name.size());
  }
  return widest;
}

}  // namespace

std::vector<std::string> FormatTasks(const std::vector<TaskResult>& results, int64_t step, int64_t max_steps) {
  const size_t widest = WidestName(results);
  std::vector<std::string> lines;
  for (const TaskResult& result : results) {
    lines.push_back(fmt::format("task {:>12}/{} | {:<{}} {:.4f} of {} answers in {} samples{}",
                                step,
                                max_steps,
                                result.name,
                                widest,
                                result.accuracy,
                                result.answers,
                                result.samples,
                                result.solved_at ? fmt::format(" | solved at {}", *result.solved_at) : ""));
  }
  return lines;
}

std::vector<std::string> FormatValidation(const std::vector<ValidationResult>& results,
                                          int64_t step,
                                          int64_t max_steps) {
  const size_t widest = WidestName(results);
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
