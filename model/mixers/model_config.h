// ModelConfig: the architecture of one model, every default already resolved. Plain values: trainer/config makes it
// from YAML, tests make it by hand, and everything of the model is built from it. Keys: docs/configuration.md,
// `model.*`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/mixers/attention/options.h"
#include "model/mixers/ksa/ksa_config.h"
#include "model/mixers/layer_spec.h"
#include "model/mixers/settings.h"

namespace ksa {

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
  int32_t intermediate_size = 0;  // 0: blocks without MLP
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
  AttentionOptions attention;     // of attention layers that don't override them; read to make layers alone
  KsaConfig ksa;                  // holds what summary rows are; read only if HasSummaryRows()
  MixerSettings mixers;           // of the other kinds; each is read by its own layers alone

  // Whether the model has summary rows at all: some layer is ksa.
  [[nodiscard]] bool HasSummaryRows() const { return LastKsaLayer() >= 0; }

  // k of the layout: what the kinds of the pattern agree on, 1 where none of them has chunks.
  [[nodiscard]] int32_t ChunkSize() const;

  // m of the layout: 0 without summary rows.
  [[nodiscard]] int32_t SummaryTokens() const { return HasSummaryRows() ? ksa.summary_tokens : 0; }

  // The smallest window of the ksa layers (those whose text sees summaries), which decides which summaries are live;
  // kUnlimited without ksa layers.
  [[nodiscard]] int32_t MinKsaWindow() const;

  // The last layer in which summaries matter, -1 without ksa layers.
  [[nodiscard]] int32_t LastKsaLayer() const;

  // Whether summary rows attend in this layer (and so have their own parameters there): ksa, and others with attend.
  [[nodiscard]] bool SummariesAttend(int32_t layer) const;

  // Rows of the embedding table and columns of the head: summaries without an own embedding take m more ids.
  [[nodiscard]] int32_t EmbeddingRows() const {
    return HasSummaryRows() && !ksa.independent.embedding ? vocab_size + ksa.summary_tokens : vocab_size;
  }

  // Empty, or which layer has no kernels of a GPU yet, and what to do.
  [[nodiscard]] std::string GpuProblem() const;

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

}  // namespace ksa
