// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

namespace ksa {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the likeliest token
  int64_t top_k = 0;         // keep only the k likeliest; 0: all
  double top_p = 1.0;        // of those as few, the likeliest first, as have this probability together
  uint64_t seed = 0;
};

// The token for step `step`, below 2^32, of text `text` of a call: a pure function of logits, options, step and text.
[[nodiscard]] int32_t SampleToken(std::span<const double> logits,
                                  const SamplingOptions& options,
                                  uint64_t step,
                                  uint64_t text = 0);

}  // namespace ksa
