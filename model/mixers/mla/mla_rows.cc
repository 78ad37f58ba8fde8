#include "model/mixers/attention_rows.h"
#include "model/mixers/mla/mla_mixer.h"
#include "model/ops/collectives.h"
#include "model/ops/latent.h"
#include "model/ops/linear.h"

namespace ksa {

AttentionRows BoundMla::RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Var entered = TensorEnter(cx, normed, call.RowsIn());
  const Latents latents = MakeLatents(cx, entered, call);
  const LatentHeadsSpec heads = {.nope_columns = config_.qk_nope_head_dim, .value_columns = config_.v_head_dim};
  const auto [k, v] = LatentHeads(cx, Linear(cx, latents.latent, *weights_.kv_b), latents.rope, heads);
  return {MakeQueries(cx, entered, call).value, k.value, call.layout, window_, config_.key_dim()};
}

}  // namespace ksa
