// SwiGLU: silu(gate) · up.
#pragma once

#include "model/autograd/tape.h"

namespace ksa {

// gate, up [n, f] -> [n, f]. Tensor axis: any but Partial, passed on.
[[nodiscard]] Var Swiglu(const ExecContext& cx, const Var& gate, const Var& up);

}  // namespace ksa
