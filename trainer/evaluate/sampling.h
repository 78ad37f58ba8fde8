// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

namespace ksa {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the likeliest token
  int64_t top_k = 0;         // keep only the k likeliest; 0: all
  uint64_t seed = 0;
};

// The token for step `step` of a text: a pure function of logits, options and step.

[[nodiscard]] int32_t SampleToken(std::span<const double> logits, const SamplingOptions& options, uint64_t step);

}  // namespace ksa
