#include "trainer/evaluate/position_bands.h"

#include <algorithm>

#include <fmt/core.h>

#include "model/mixers/attention/attention_mixer.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

// The positions at which bands begin, of `positions`.
std::vector<int64_t> BeginsOf(int64_t positions, int64_t window) {
  std::vector<int64_t> begins = {0};
  for (int64_t begin = 1; begin < std::min(positions, window); begin *= 4) {
    begins.push_back(begin);
  }
  for (int64_t begin = window; begin < positions; begin *= 2) {
    begins.push_back(begin);
  }
  return begins;
}

std::string InWindows(const PositionBand& band, int64_t window) {
  return band.first < window ? "within" : fmt::format("{}-{}x", band.first / window, 2 * band.first / window);
}

}  // namespace

std::optional<int64_t> TextWindow(const ModelConfig& model) {
  std::optional<int64_t> least;
  for (const LayerSpec& layer : model.layers) {
    const auto* attention = dynamic_cast<const AttentionMixer*>(&*layer);
    if (attention == nullptr) {
      continue;
    }
    const AttentionWindow& window = attention->window();
    for (const int64_t tokens :
         {window.chunks == AttentionWindow::kUnlimited ? int64_t{AttentionWindow::kUnlimited}
                                                       : int64_t{window.chunks} * model.ChunkSize(),
          int64_t{window.tokens}}) {
      if (tokens > 0 && tokens != AttentionWindow::kUnlimited) {
        least = std::min(least.value_or(tokens), tokens);
      }
    }
  }
  return least;
}

std::vector<PositionBand> BandsOf(const EvaluationSums& sums, std::optional<int64_t> window) {
  const auto positions = static_cast<int64_t>(sums.position_loss.size());
  const std::vector<int64_t> begins = BeginsOf(positions, window.value_or(positions));
  std::vector<PositionBand> bands;
  for (size_t i = 0; i < begins.size(); ++i) {
    PositionBand band = {begins[i], (i + 1 < begins.size() ? begins[i + 1] : positions) - 1};
    for (int64_t at = band.first; at <= band.last; ++at) {
      band.loss += sums.position_loss[static_cast<size_t>(at)];
      band.targets += sums.position_targets[static_cast<size_t>(at)];
    }
    band.loss = band.targets > 0 ? band.loss / band.targets : 0.0;
    bands.push_back(band);
  }
  return bands;
}

std::string RenderBands(const EvaluationSums& sums, std::optional<int64_t> window) {
  Table table({{"positions", "positions"}, {"window", "window"}, {"loss", "loss", 4}, {"targets", "targets"}});
  for (const PositionBand& band : BandsOf(sums, window)) {
    const std::string range =
        band.first == band.last ? fmt::format("{}", band.first) : fmt::format("{}-{}", band.first, band.last);
    table.AddRow({range,
                  InWindows(band, window.value_or(band.last + 1)),
                  band.targets > 0 ? TableCell(band.loss) : TableCell(),
                  static_cast<int64_t>(band.targets)});
  }
  return table.Text(window ? std::vector<std::string>{} : std::vector<std::string>{"positions", "loss", "targets"});
}

}  // namespace ksa
