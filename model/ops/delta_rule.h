// The mixing of a Gated DeltaNet layer, and the gated norm behind it; see kernels/delta_rule.
#pragma once

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"

namespace ksa {

struct GatedDeltaSpec {
  SummaryLayout layout;          // of the rows that are here
  SummaryLayout whole;           // of whole sequences; read where they are spread over ranks
  Parameter* a_log = nullptr;    // [hv]
  Parameter* dt_bias = nullptr;  // [hv]
  int key_dim = 0;
  int value_dim = 0;
  double most_write = 1.0;  // of beta
  // Decoding: the states that the sequences begin with and those that they leave, [sequences, hv, dk, dv] in the
  // accumulation type. Empty: they begin with zeros, and nobody asks. Neither has a gradient; on one context rank.
  TensorView initial_state{};
  TensorView final_state{};
};

// q, k [n, hk·dk] (scaled to length 1 in here), v [n, hv·dv], a and b [n, hv], text rows -> [n, hv·dv]. Tensor axis:
// all Sharded(1), whole heads, with parameters Sharded(0).
//
// Where context ranks share sequences, the state travels: each rank computes what its slices write into a state of
// zeros and what becomes of a state that comes in, both are gathered, and the states that come in are folded from them.
// Backward the same of gradients. The bytes do not depend on the length of the sequences.
[[nodiscard]] Var GatedDelta(const ExecContext& cx,
                             const Var& q,
                             const Var& k,
                             const Var& v,
                             const Var& a,
                             const Var& b,
                             const GatedDeltaSpec& spec);

// weight · RMSNorm(x) · SiLU(z) by heads; x, z [n, h·e]. Tensor axis: Sharded(1), passed on; the weight, used on a
// rank's own heads, has a gradient that is partial there.
[[nodiscard]] Var GatedNorm(const ExecContext& cx, const Var& x, const Var& z, Parameter& weight, double eps);

}  // namespace ksa
