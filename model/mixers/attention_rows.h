// What attention of a layer compares, for whoever looks at its weights.
#pragma once

#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"
#include "model/autograd/context.h"
#include "model/autograd/tape.h"

namespace ksa {

struct MixerCall;  // model/mixers/mixer.h

// Shapes: h query heads, g key/value heads (query head i reads key/value head i / (h/g)), e columns a head.
struct AttentionRows {
  Tensor q;              // [nq, h·e]: all text rows of the layout, then the summary rows that attend in this layer
  Tensor k;              // [nk, g·e]: all text rows, then those of summaries
  SummaryLayout layout;  // as attention takes it
  AttentionWindow window;
  int head_dim = 0;  // e; scores are scaled by 1/sqrt(e)
};

// What a BoundMixer of softmax attention is as well. On one rank.
class ShowsAttention {
 public:
  ShowsAttention() = default;
  ShowsAttention(const ShowsAttention&) = delete;
  ShowsAttention& operator=(const ShowsAttention&) = delete;
  virtual ~ShowsAttention() = default;

  // Of the rows that BoundMixer::Forward gets.
  [[nodiscard]] virtual AttentionRows RowsOf(const ExecContext& cx, const Var& normed, const MixerCall& call) const = 0;
};

}  // namespace ksa
