// ModelConfig: the architecture of one model, every default already resolved. Plain values: trainer/config makes it
// from YAML, tests make it by hand, and everything of the model is built from it. Keys: docs/configuration.md,
// `model.*`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/core/summary_layout.h"

namespace ksa {

enum class LayerKind : int {
  kKsa,   // text sees the text of its chunk window and the summaries of all chunks before it
  kFull,  // text sees all text before it
  kSwa,   // text sees the last `window_tokens` text tokens, itself included
  kSca,   // text sees the text of its chunk window; no summaries
};

// One layer's attention. The field that its kind doesn't use keeps AttentionWindow::kUnlimited.
struct LayerSpec {
  LayerKind kind = LayerKind::kKsa;
  int32_t window_chunks = AttentionWindow::kUnlimited;  // w >= 0: ksa, sca
  int32_t window_tokens = AttentionWindow::kUnlimited;  // >= 1: swa

  [[nodiscard]] AttentionWindow Window() const { return {window_chunks, window_tokens, kind == LayerKind::kKsa}; }

  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

// What summary rows do in layers of another kind than ksa.
enum class FullLayers : int {
  kAttend,  // they run through the block like any row and see their own chunk
  kBypass,  // they skip the whole block, MLP included
};

// Which parameters the summary rows have for themselves.
struct IndependentSummary {
  bool embedding = true;  // off: ids vocab_size .. vocab_size + m - 1 of the embedding and the head
  bool qkv = true;
  bool norm = false;
  bool qk_norm = false;  // needs qkv

  friend bool operator==(const IndependentSummary&, const IndependentSummary&) = default;
};

// The weight a of the summaries' own projections: 1 up to update start_step, then falling linearly, 0 from update
// end_step on. Updates count from 1.
struct AnnealConfig {
  int64_t start_step = 0;
  int64_t end_step = 0;  // > start_step

  friend bool operator==(const AnnealConfig&, const AnnealConfig&) = default;
};

struct KsaConfig {
  int32_t chunk_size = 8;       // k >= 1
  int32_t summary_tokens = 1;   // m, 1 .. 64
  int32_t window_chunks = 128;  // w of the layers that don't override it
  TextPositions text_positions = TextPositions::kOrigin;
  SummaryPositions summary_positions = SummaryPositions::kChunkEnd;
  FullLayers full_layers = FullLayers::kAttend;
  IndependentSummary independent;
  std::optional<AnnealConfig> anneal;

  friend bool operator==(const KsaConfig&, const KsaConfig&) = default;
};

// The standard deviation of the initial weights: `std`, or (fan_in) 1/sqrt(columns) for matrices and 1 for embeddings.
struct InitializerRange {
  bool fan_in = false;
  double std = 0.02;  // unused with fan_in

  friend bool operator==(const InitializerRange&, const InitializerRange&) = default;
};

// Which parts of a block run again in backward instead of keeping what they computed. Attention itself never does.
enum class Recompute : int { kNone, kAttention, kMlp, kBlock };

struct ModelConfig {
  int32_t vocab_size = 0;  // v; the ids of summaries that share the embedding are not counted
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_hidden_layers = 0;
  int32_t num_attention_heads = 0;
  int32_t num_key_value_heads = 0;  // divides num_attention_heads
  int32_t head_dim = 0;             // even
  double rope_theta = 10000.0;
  double rms_norm_eps = 1e-6;
  bool qk_norm = true;
  bool tie_word_embeddings = false;
  InitializerRange initializer_range;
  int32_t max_position_embeddings = 0;
  std::vector<LayerSpec> layers;  // one a layer: the pattern repeated over the depth; size num_hidden_layers
  KsaConfig ksa;                  // holds what summary rows are; read only if HasSummaryRows()
  int32_t sca_chunk_size = 0;     // 0: not given; read only if some layer is sca

  // Whether the model has summary rows at all: some layer is ksa.
  [[nodiscard]] bool HasSummaryRows() const { return LastKsaLayer() >= 0; }

  // k of the layout: ksa.chunk_size; in patterns without ksa sca.chunk_size, else 1.
  [[nodiscard]] int32_t ChunkSize() const {
    if (HasSummaryRows()) {
      return ksa.chunk_size;
    }
    const bool has_sca =
        std::any_of(layers.begin(), layers.end(), [](const LayerSpec& layer) { return layer.kind == LayerKind::kSca; });
    return has_sca ? sca_chunk_size : 1;
  }

  // m of the layout: 0 without summary rows.
  [[nodiscard]] int32_t SummaryTokens() const { return HasSummaryRows() ? ksa.summary_tokens : 0; }

  // The smallest window of the ksa layers, which decides which summaries are live; kUnlimited without ksa layers.
  [[nodiscard]] int32_t MinKsaWindow() const {
    int32_t window = AttentionWindow::kUnlimited;
    for (const LayerSpec& layer : layers) {
      if (layer.kind == LayerKind::kKsa) {
        window = std::min(window, layer.window_chunks);
      }
    }
    return window;
  }

  // The last layer in which summaries matter, -1 without ksa layers.
  [[nodiscard]] int32_t LastKsaLayer() const {
    int32_t last = static_cast<int32_t>(layers.size()) - 1;
    while (last >= 0 && layers[static_cast<size_t>(last)].kind != LayerKind::kKsa) {
      --last;
    }
    return last;
  }

  // Whether summary rows attend in this layer (and so have their own parameters there): ksa, and others with attend.
  [[nodiscard]] bool SummariesAttend(int32_t layer) const {
    const LayerKind kind = layers[static_cast<size_t>(layer)].kind;
    return HasSummaryRows() && (kind == LayerKind::kKsa || ksa.full_layers == FullLayers::kAttend);
  }

  // Rows of the embedding table and columns of the head: summaries without an own embedding take m more ids.
  [[nodiscard]] int32_t EmbeddingRows() const {
    return HasSummaryRows() && !ksa.independent.embedding ? vocab_size + ksa.summary_tokens : vocab_size;
  }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

}  // namespace ksa
