// Counts that have more than one spelling.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "trainer/config/codec.h"

namespace ksa {

// A count of tokens: plain digits (1000000), groups of digits (1_000_000), an exponent (1e9, 2.5e9), or a decimal unit
// K, M, G, T (100G = 100e9). None when the text is no whole number of tokens in one of these forms, or over 2^60.
[[nodiscard]] std::optional<int64_t> ParseTokenCount(std::string_view text);

// Reads such a count, at least 1; writes plain digits.
[[nodiscard]] Codec<int64_t> TokenCountCodec();

// A number of updates as written: plain, or a percentage of max_steps ("5%", "2.5%").
struct StepCount {
  int64_t steps = 0;
  std::optional<int64_t> share;  // of max_steps, in millionths of a percent; then `steps` does not count

  // Rounded down.
  [[nodiscard]] int64_t Of(int64_t max_steps) const;
};

[[nodiscard]] Codec<StepCount> StepCountCodec();

}  // namespace ksa
