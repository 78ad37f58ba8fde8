// Recompute: forget what a block saved and run it again in backward (Chen et al. 2016).
#pragma once

#include <functional>

#include "model/autograd/tape.h"

namespace ksa {

// y = block(cx, x). Without a tape in `cx` just that. With one, the block runs without saving anything but x and what
// KeptTensors lists; backward runs the same block on a tape of its own. The same arithmetic in the same order:
// gradients equal those of a plain call in bits. `block` must own what it captures, or capture what outlives backward.
[[nodiscard]] Var Recomputed(const ExecContext& cx,
                             const Var& x,
                             std::function<Var(const ExecContext& cx, const Var& x)> block);

// Whether this is a block that runs again for its backward pass alone: nobody reads what its last product gives.
[[nodiscard]] inline bool RunsAgain(const ExecContext& cx) {
  return cx.kept != nullptr && cx.kept->replay;
}

}  // namespace ksa
