// How far the attention outputs of a student are from its teacher's: the sum over elements of min((s - t)^2, 0.1), and
// its gradient. With `normalize` each row is first divided by sqrt(mean of its squares) + 1e-6; the student's divisor
// has a gradient too.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct AttentionTermArgs {
  TensorView student;     // [n, d]
  TensorView teacher;     // [n, d]
  TensorView dstudent{};  // [n, d] out: scale times the gradient of the sum; or empty
  TensorView sum;         // [1] fp64, added to (CPU: row by row; GPU: in an order that depends on n alone)
  double scale = 1.0;
  bool normalize = false;
  Allocator* allocator = nullptr;  // scratch of a GPU: [n] fp32
};

inline constexpr double kAttentionTermMost = 0.1;

void AttentionTerm(const AttentionTermArgs& args, const Stream& stream);

}  // namespace ksa
