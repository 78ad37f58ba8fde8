// What summary rows are: model.attention.ksa. They are rows of the whole model, with an embedding and parameters of
// their own in layers of other kinds too; so this is a field of ModelConfig, and not settings that the kind keeps to
// itself.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/core/summary_layout.h"

namespace ksa {

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
  static constexpr int64_t kNotGiven = -1;  // never in a configuration that was checked

  int64_t start_step = kNotGiven;
  int64_t end_step = kNotGiven;  // > start_step

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

}  // namespace ksa
