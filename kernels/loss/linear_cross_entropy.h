// The output matrix and the cross-entropy in one: logits = x W^T, loss = sum over rows with a target of
// logsumexp(logits) - logits[target]. Rows are taken in chunks, so that [n, v] logits never exist at once.
//
// Shapes: n rows, d model dim, v vocabulary (columns past the real vocabulary, if W has any, take part).
// A target < 0 is no target: no loss and no gradient. A target >= v is an Error(kBadData); on a GPU, where nobody can
// look at it without waiting, it gives NaN for the row's loss and gradient.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct LinearCrossEntropyArgs {
  TensorView x;           // [n, d]
  TensorView weight;      // [v, d]
  TensorView targets;     // [n] int32
  TensorView row_loss{};  // [n] out, accumulation type, 0 for rows without target; or empty
  TensorView loss_sum;    // [1] fp64, added to: the sum over rows, in row order (GPU: a fixed order)
  // Gradients of grad_scale · loss_sum; leave dx empty for the loss alone.
  TensorView dx{};         // [n, d] out, or empty
  TensorView dweight{};    // [v, d] accumulation type; needed with dx
  bool accumulate = true;  // add to dweight, or write it
  double grad_scale = 1.0;
  // Scratch memory for the logits of a chunk of rows comes from here.
  Allocator* allocator = nullptr;
};

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream);

}  // namespace ksa
