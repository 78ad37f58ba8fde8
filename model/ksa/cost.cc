#include "model/ksa/cost.h"

#include <algorithm>
#include <numeric>

#include "model/ksa/model.h"
#include "model/ksa/parameters.h"

namespace ksa {
namespace {

// sum over x = first + 1 .. first + count of min(x, limit)
int64_t SumOfMinima(int64_t first, int64_t count, int64_t limit) {
  const int64_t rising = std::clamp<int64_t>(limit - first, 0, count);
  return rising * first + rising * (rising + 1) / 2 + (count - rising) * limit;
}

// Whether text of a later chunk of the same document sees the summaries of `chunk` in a layer with `window_chunks`.
bool IsLive(const SummaryLayout& layout, int32_t sequence, int32_t chunk, int32_t window_chunks) {
  const int64_t reader = int64_t{1} * chunk + window_chunks + 1;
  return reader < layout.total_chunks() &&
         layout.DocumentChunk(sequence, static_cast<int32_t>(reader)) == layout.DocumentChunk(sequence, chunk);
}

// Calls function(sequence, chunk) for the chunks that are here, by the sequence's numbers.
template <typename Function>
void ForEachChunk(const SummaryLayout& layout, const Function& function) {
  for (int32_t sequence = 0; sequence < layout.sequences; ++sequence) {
    for (int32_t place = 0; place < layout.chunks(); ++place) {
      function(sequence, layout.ChunkAt(place));
    }
  }
}

// Rows that are not padding.
int64_t CountTextTokens(const SummaryLayout& layout) {
  int64_t tokens = 0;
  ForEachChunk(layout, [&](int32_t sequence, int32_t chunk) { tokens += layout.ChunkTokens(sequence, chunk); });
  return tokens;
}

// Summary rows run through this layer like text rows. In the last KSA layer they are keys only, in others they bypass.
bool SummariesAreQueries(const ModelConfig& config, int32_t layer) {
  return layer < config.LastKsaLayer() && config.SummariesAttend(layer);
}

int64_t HeadColumns(const ModelConfig& config, int32_t heads) {
  return int64_t{1} * heads * config.head_dim;
}

}  // namespace

PairCount CountTextPairs(const SummaryLayout& layout, const AttentionWindow& window) {
  PairCount pairs;
  ForEachChunk(layout, [&](int32_t sequence, int32_t chunk) {
    const int64_t tokens = layout.ChunkTokens(sequence, chunk);
    const int64_t before = chunk - layout.DocumentChunk(sequence, chunk);
    const int64_t in_window = std::min<int64_t>(before, window.chunks);
    pairs.text += SumOfMinima(in_window * layout.chunk_size, tokens, window.tokens);
    if (window.summaries) {
      pairs.summary += tokens * (before - in_window) * layout.summary_tokens;
    }
  });
  return pairs;
}

LiveSummaries CountLiveSummaries(const SummaryLayout& layout, int32_t window_chunks) {
  LiveSummaries live;
  const int64_t m = layout.summary_tokens;
  ForEachChunk(layout, [&](int32_t sequence, int32_t chunk) {
    if (IsLive(layout, sequence, chunk, window_chunks)) {
      live.rows += m;
      live.pairs += m * layout.ChunkTokens(sequence, chunk) + m * (m + 1) / 2;
    }
  });
  return live;
}

PairCount CountLayerPairs(const ModelConfig& config, const SummaryLayout& layout, int32_t layer) {
  PairCount pairs = CountTextPairs(layout, config.layers[static_cast<size_t>(layer)].Window());
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
  const int64_t q = HeadColumns(config, config.num_attention_heads);
  const int64_t kv = HeadColumns(config, config.num_key_value_heads);
  const int64_t row = 2 * (2 * d * q + 2 * d * kv + 3 * d * config.intermediate_size);
  const int64_t text_rows = CountTextTokens(layout);
  const int64_t summary_rows = CountLiveSummaries(layout, config.MinKsaWindow()).rows;
  ForwardFlops flops;
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const int64_t pairs = CountLayerPairs(config, layout, layer).Total();
    flops.attention += 4.0 * static_cast<double>(q) * static_cast<double>(pairs);
    flops.linear += static_cast<double>(row * text_rows);
    if (SummariesAreQueries(config, layer)) {
      flops.summary_linear += static_cast<double>(row * summary_rows);
    } else if (layer == config.LastKsaLayer()) {
      flops.summary_linear += static_cast<double>(4 * d * kv * summary_rows);
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

KvCache CountKvCache(const ModelConfig& config, int64_t tokens, DType dtype) {
  const int64_t k = config.ChunkSize();
  KvCache cache;
  for (const LayerSpec& layer : config.layers) {
    const int64_t window = layer.window_chunks == AttentionWindow::kUnlimited ? tokens : (layer.window_chunks + 1) * k;
    cache.entries += std::min({tokens, window, int64_t{layer.window_tokens}});
    if (layer.kind == LayerKind::kKsa) {
      cache.entries += tokens / k * config.ksa.summary_tokens;
    }
  }
  cache.bytes = cache.entries * 2 * HeadColumns(config, config.num_key_value_heads) * SizeOf(dtype);
  return cache;
}

}  // namespace ksa
