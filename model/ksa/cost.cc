#include "model/ksa/cost.h"

#include <algorithm>
#include <numeric>

#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "model/mixers/mixer.h"

namespace ksa {
namespace {

// Summary rows run through this layer like text rows. In the last KSA layer they are keys only, in others they bypass.
bool SummariesAreQueries(const ModelConfig& config, int32_t layer) {
  return layer < config.LastKsaLayer() && config.SummariesAttend(layer);
}

}  // namespace

PairCount CountLayerPairs(const ModelConfig& config, const SummaryLayout& layout, int32_t layer) {
  PairCount pairs = config.layers[static_cast<size_t>(layer)]->CountTextPairs(layout);
  if (SummariesAreQueries(config, layer)) {
    pairs.summary_query = CountLiveSummaries(layout, config.MinKsaWindow()).pairs;
  }
  return pairs;
}

double KeysPerTextQuery(const ModelConfig& config, int32_t text_tokens) {
  const SummaryLayout layout = MakeLayout(config, 1, text_tokens);
  double pairs = 0.0;
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    pairs += static_cast<double>(CountLayerPairs(config, layout, layer).OfTextQueries());
  }
  return pairs / config.num_hidden_layers / text_tokens;
}

ForwardFlops CountForwardFlops(const ModelConfig& config, const SummaryLayout& layout) {
  const int64_t d = config.hidden_size;
  const int64_t mlp = 6 * d * config.intermediate_size;
  const int64_t text_rows = CountTextTokens(layout);
  const int64_t summary_rows = CountLiveSummaries(layout, config.MinKsaWindow()).rows;
  ForwardFlops flops;
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const Mixer& mixer = *config.layers[static_cast<size_t>(layer)];
    const RowCost cost = mixer.CostOfRow(config);
    const int64_t pairs = CountLayerPairs(config, layout, layer).Total();
    const int64_t row = cost.RowFlops() + mlp;
    flops.attention += static_cast<double>(cost.pair_flops) * static_cast<double>(pairs);
    flops.linear += static_cast<double>(row * text_rows + cost.text_flops * text_rows +
                                        cost.pooled_flops * mixer.CountPooledRows(layout));
    if (SummariesAreQueries(config, layer)) {
      flops.summary_linear += static_cast<double>(row * summary_rows);
    } else if (layer == config.LastKsaLayer()) {
      flops.summary_linear += static_cast<double>(cost.key_flops * summary_rows);
    }
  }
  flops.head = static_cast<double>(2 * d * config.EmbeddingRows() * text_rows);
  return flops;
}

double ForwardFlopsPerToken(const ModelConfig& config, int32_t text_tokens) {
  return CountForwardFlops(config, MakeLayout(config, 1, text_tokens)).Total() / text_tokens;
}

std::optional<double> Mfu(double forward_flops, double seconds, std::optional<double> peak_flops) {
  if (!peak_flops.has_value()) {
    return std::nullopt;
  }
  return 3.0 * forward_flops / (seconds * *peak_flops);
}

std::array<int64_t, kParameterKinds> CountParameters(const ModelConfig& config) {
  std::array<int64_t, kParameterKinds> counts{};
  for (const ParameterSpec& spec : ParameterSpecs(config)) {
    counts.at(static_cast<size_t>(spec.kind)) += spec.shape.size();
  }
  return counts;
}

int64_t TotalParameters(const ModelConfig& config) {
  const std::array<int64_t, kParameterKinds> counts = CountParameters(config);
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

CacheSize CountKvCache(const ModelConfig& config, int64_t tokens, DType dtype) {
  CacheSize cache;
  for (const LayerSpec& layer : config.layers) {
    cache += layer->CacheAt(config, tokens, dtype);
  }
  return cache;
}

}  // namespace ksa
