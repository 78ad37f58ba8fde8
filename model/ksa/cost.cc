#include "model/ksa/cost.h"

#include <numeric>

#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "model/mixers/mixer.h"

namespace ksa {
ForwardFlops CountForwardFlops(const ModelConfig& config, const SummaryLayout& layout) {
  return ForwardCounter(config, layout.total()).Count(layout);
}

double KeysPerTextQuery(const ModelConfig& config, int32_t text_tokens) {
  const double pairs = CountForwardFlops(config, MakeLayout(config, 1, text_tokens)).text_pairs;
  return pairs / config.num_hidden_layers / text_tokens;
}

double ForwardFlopsPerToken(const ModelConfig& config, int32_t text_tokens, std::optional<double> targets) {
  ForwardFlops flops = CountForwardFlops(config, MakeLayout(config, 1, text_tokens));
  flops.head *= targets.value_or(text_tokens) / text_tokens;
  return flops.Total() / text_tokens;
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
