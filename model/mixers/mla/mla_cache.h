// What a layer with latents keeps: of each row its latent with the rotary part behind it, key and value of all heads.
#pragma once

#include "model/mixers/attention/attention_cache.h"

namespace ksa {

class MlaCache final : public LayerCache {
 public:
  // `latent`, `rope`: their columns.
  MlaCache(const ExecContext& cx, const CacheSpec& spec, const AttentionWindow& window, int64_t latent, int64_t rope)
      : kept_(KeptRows::Of(spec, window, spec.summary_tokens)),
        latent_(latent),
        rows_(cx, spec, kept_, latent + rope) {}

  [[nodiscard]] int64_t bytes() const override {
    return rows_.rows().view().bytes() + q_taps.bytes() + kv_taps.bytes();
  }

  // Rows [n, latent + rope] of a call.
  void Keep(const ExecContext& cx, const Tensor& rows, const MixerCall& call) { rows_.Keep(cx, rows, call); }

  // q [n, h, latent + rope], the first rows of a step, attend to what is kept and, summaries, to the step's own `rows`.
  // -> [n, h, latent]
  [[nodiscard]] Tensor Attend(
      const ExecContext& cx, const TensorView& q, const TensorView& rows, const MixerCall& call, double scale) const;

  KeptTaps q_taps;
  KeptTaps kv_taps;

 private:
  KeptRows kept_;
  int64_t latent_;
  RowStore rows_;
};

}  // namespace ksa
