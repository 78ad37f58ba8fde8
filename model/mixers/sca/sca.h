// Sliding chunk attention: text sees the text of its chunk window, as in a KSA layer without summaries.
#pragma once

#include <optional>

#include "model/mixers/attention/options.h"
#include "model/mixers/mixer.h"

namespace ksa {

// model.attention.sca
struct ScaConfig {
  std::optional<int32_t> chunk_size;     // >= 1
  std::optional<int32_t> window_chunks;  // >= 0: of the layers that don't override it

  friend bool operator==(const ScaConfig&, const ScaConfig&) = default;
};

[[nodiscard]] const MixerKind& ScaKind();

[[nodiscard]] LayerSpec ScaLayer(int32_t window_chunks, const AttentionOptions& options = {});

}  // namespace ksa
