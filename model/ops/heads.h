// The columns of a matrix as heads.
#pragma once

#include "kernels/core/tensor.h"

namespace ksa {

// x [n, h·e] as [n, h, e].
[[nodiscard]] inline TensorView Heads(const TensorView& x, int head_dim) {
  return x.Reshape({x.rows(), x.cols() / head_dim, head_dim});
}

// The columns of a head of v, which has as many heads as k, of head_dim columns each, but maybe of another width.
[[nodiscard]] inline int ValueDim(const TensorView& k, const TensorView& v, int head_dim) {
  return static_cast<int>(v.cols() / (k.cols() / head_dim));
}

// Shape of what attention makes of queries q [n, h·e]: [n, h·c].
[[nodiscard]] inline Shape OutputShape(const TensorView& q, int head_dim, int value_dim) {
  return {q.rows(), q.cols() / head_dim * value_dim};
}

}  // namespace ksa
