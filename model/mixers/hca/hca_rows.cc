#include "model/mixers/attention_rows.h"
#include "model/mixers/hca/hca_mixer.h"

namespace ksa {

// Entries stand where summaries do.
AttentionRows BoundHca::RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const {
  const Rows rows = MakeRows(cx, normed, call);
  return {rows.q.value,
          rows.k.value,
          WithEntries(call.layout, setup().window, positions_),
          setup().window,
          setup().head_dim};
}

}  // namespace ksa
