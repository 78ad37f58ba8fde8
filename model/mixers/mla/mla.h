// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of a row are expanded from one latent
// that all heads share, and a part of the key carries the position. As a kind it is full causal attention; as
// `projection: mla` it takes the place of q, k and v projections in layers of ksa, full, swa and sca.
#pragma once

#include <optional>

#include "kernels/core/summary_layout.h"
#include "model/mixers/attention/options.h"
#include "model/mixers/mixer.h"

namespace ksa {

enum class Projection : int { kGqa, kMla };

// model.attention.mla, and model.attention.projection
struct MlaConfig {
  Projection projection = Projection::kGqa;  // of layers that don't override it
  std::optional<int32_t> q_lora_rank;        // none: queries are projected without a latent
  int32_t kv_lora_rank = 512;                // of the latent
  int32_t qk_nope_head_dim = 128;            // columns of a head of q and k without position
  int32_t qk_rope_head_dim = 64;             // and with it; even; of k one for all heads
  int32_t v_head_dim = 128;

  [[nodiscard]] int32_t key_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }

  friend bool operator==(const MlaConfig&, const MlaConfig&) = default;
};

[[nodiscard]] const MixerKind& MlaKind();

// The kind `mla`.
[[nodiscard]] LayerSpec MlaLayer(const AttentionOptions& options = {});

// A layer of another kind of attention with such projections.
[[nodiscard]] LayerSpec WithMla(const MixerKind& kind,
                                const AttentionWindow& window,
                                const AttentionOptions& options = {});

[[nodiscard]] Projection ProjectionOf(const Mixer& mixer);

// The key `projection`, which is also a field of entries of the kinds that have the choice.
[[nodiscard]] MixerKey ProjectionKey();

}  // namespace ksa
