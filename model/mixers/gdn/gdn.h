// Gated DeltaNet (Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464): a state of fixed size in the place of keys and
// values of the past. Parameters are named as in Hugging Face's OLMo-Hybrid and flash-linear-attention.
#pragma once

#include <cstdint>

#include "model/mixers/mixer.h"

namespace ksa {

// model.attention.gdn
struct GdnConfig {
  int32_t key_heads = 16;
  int32_t value_heads = 16;  // a multiple of key_heads
  int32_t key_head_dim = 128;
  int32_t value_head_dim = 128;
  int32_t conv_taps = 4;
  bool allow_neg_eigval = false;  // the write strength goes up to 2

  friend bool operator==(const GdnConfig&, const GdnConfig&) = default;
};

[[nodiscard]] const MixerKind& GdnKind();

[[nodiscard]] LayerSpec GdnLayer();

}  // namespace ksa
