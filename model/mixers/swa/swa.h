// Sliding window attention: text sees the last tokens of text, itself included.
#pragma once

#include <optional>

#include "model/mixers/attention/options.h"
#include "model/mixers/mixer.h"

namespace ksa {

// model.attention.swa
struct SwaConfig {
  std::optional<int32_t> window;  // >= 1: of the layers that don't override it

  friend bool operator==(const SwaConfig&, const SwaConfig&) = default;
};

[[nodiscard]] const MixerKind& SwaKind();

[[nodiscard]] LayerSpec SwaLayer(int32_t window_tokens, const AttentionOptions& options = {});

}  // namespace ksa
