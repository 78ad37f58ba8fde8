// The columns of a matrix as heads.
#pragma once

#include "kernels/core/tensor.h"

namespace ksa {

// x [n, h·e] as [n, h, e].
[[nodiscard]] inline TensorView Heads(const TensorView& x, int head_dim) {
  return x.Reshape({x.rows(), x.cols() / head_dim, head_dim});
}

}  // namespace ksa
