#include "model/mixers/attention_rows.h"

#include "model/mixers/attention/attention_mixer.h"

namespace ksa {

AttentionRows BoundAttention::RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Projected rows = Project(cx, normed, call, {});
  return {rows.q.value, rows.k.value, call.layout, setup_.window, setup_.head_dim};
}

}  // namespace ksa
