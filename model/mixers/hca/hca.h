// Heavily compressed attention: text sees the text of its chunk window, and of the chunks before it one entry each,
// pooled from the chunk's rows (after DeepSeek-V4, arXiv 2606.19348, 2.3.2). KSA's mask, cache and softmax without
// summary tokens: what a chunk leaves behind is pooled, where KSA runs it through the network.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/mixers/attention/options.h"
#include "model/mixers/mixer.h"

namespace ksa {

enum class HcaVisibility : int {
  kDisjoint,  // a chunk is seen as text, or when its text has left the window as its entry
  kOverlap,   // an entry is seen from its chunk's last token on
};

enum class HcaGate : int {
  kShared,    // one gate weighs a chunk's rows for keys and values
  kSeparate,  // one each
};

// model.attention.hca
struct HcaConfig {
  int32_t chunk_size = 8;       // k >= 1
  int32_t window_chunks = 128;  // w >= 0, of the layers that don't override it
  SummaryPositions compressed_positions = SummaryPositions::kChunkEnd;
  HcaVisibility visibility = HcaVisibility::kDisjoint;
  bool independent_kv = true;  // entries are pooled from projections of their own, not from the text's keys and values
  HcaGate gate = HcaGate::kShared;
  bool value_norm = true;

  friend bool operator==(const HcaConfig&, const HcaConfig&) = default;
};

[[nodiscard]] const MixerKind& HcaKind();

[[nodiscard]] LayerSpec HcaLayer(int32_t window_chunks,
                                 HcaVisibility visibility = HcaVisibility::kDisjoint,
                                 const AttentionOptions& options = {});

}  // namespace ksa
