// Operations of multi-head latent attention; see kernels/latent/latent_heads.h.
#pragma once

#include <array>
#include <memory>

#include "kernels/core/summary_layout.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "model/ops/key_expander.h"

namespace ksa {

// x [n, a + b] -> its first `first` columns, and the others. Tensor axis: any that holds whole columns of this rank's
// rows (all but Partial and Sharded(1)), passed on.
[[nodiscard]] std::array<Var, 2> SplitColumns(const ExecContext& cx, const Var& x, int64_t first);

struct RotateTailsSpec {
  SummaryLayout layout;
  TensorView table;  // [positions, r/2, 2] of FillRopeTable
  int head_dim = 0;
};

// x [n, heads · head_dim], the first rows of the layout, with the last r columns of every head rotated. Tensor axis:
// Sharded(1) (whole heads) or Entered, passed on.
[[nodiscard]] Var RotateTails(const ExecContext& cx, const Var& x, const RotateTailsSpec& spec);

struct LatentHeadsSpec {
  int nope_columns = 0;
  int value_columns = 0;
};

// kv [n, heads · (nope + value)] and one rope [n, r] for all heads -> k [n, heads · (nope + r)], v [n, heads · value].
// Tensor axis: kv Sharded(1), passed on; rope Entered: its gradient is the sum over this rank's heads.
[[nodiscard]] std::array<Var, 2> LatentHeads(const ExecContext& cx,
                                             const Var& kv,
                                             const Var& rope,
                                             const LatentHeadsSpec& spec);

// Expands latents [n, kv_lora_rank] and rotary parts [n, r] by `kv_b`, as LatentHeads of their product does. `kv_b`
// must outlive it.
[[nodiscard]] std::shared_ptr<const KeyExpander> MakeLatentExpander(Parameter& kv_b,
                                                                    int rope_columns,
                                                                    const LatentHeadsSpec& spec);

}  // namespace ksa
