// Loss by position, in few bands of positions: what attention over distance buys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/mixers/model_config.h"
#include "trainer/evaluate/evaluation_sums.h"

namespace ksa {

// Text tokens that a layer sees at most, the smallest of the model's layers with a limit: w·k where it is w chunks.
// None where every layer sees all text.
[[nodiscard]] std::optional<int64_t> TextWindow(const ModelConfig& model);

// Positions [first, last] of a sequence.
struct PositionBand {
  int64_t first = 0;
  int64_t last = 0;
  double loss = 0.0;  // nats, mean over the targets; 0 where there are none
  double targets = 0.0;
};

// Bands of all positions of `sums`: position 0 alone, bands that grow fourfold, one that ends where the window does,
// and behind it bands that grow twofold, so that every end is a multiple of the window. Without a window the fourfold
// ones go on.
[[nodiscard]] std::vector<PositionBand> BandsOf(const EvaluationSums& sums, std::optional<int64_t> window);

// The bands as a table for people, with what part or how many windows they are from the beginning, where there is one.
[[nodiscard]] std::string RenderBands(const EvaluationSums& sums, std::optional<int64_t> window);

}  // namespace ksa
