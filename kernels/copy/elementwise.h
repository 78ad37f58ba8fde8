// Copies, casts, sums and reductions. Tensors of one call have the same number of elements; their shapes may differ.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// to = from, element by element, converting between fp64, fp32 and bf16 (int32 to int32 as well).
void Copy(const TensorView& from, const TensorView& to, const Stream& stream);

// Every element zero.
void Zero(const TensorView& x, const Stream& stream);

// y = a + b. y may alias a or b.
void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream);

// y = a·x + b·y. y may alias x. With b == 0 the old contents of y are not read.
void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream);

// Adds the sum of squares of x (accumulated in fp64 in an order that depends on the size alone) to out [1], fp64.
// Non-finite elements make the result non-finite. A GPU needs `allocator` for scratch of [size / 32768] fp64, which is
// freed before the call returns; the CPU does not use it.
void SumOfSquares(const TensorView& x, const TensorView& out, const Stream& stream, Allocator* allocator = nullptr);

// Raises out [1], fp64, to the largest element of x, fp32 (or fp64 on the CPU); NaN where one is. An empty x changes
// nothing.
void RaiseToLargest(const TensorView& x, const TensorView& out, const Stream& stream);

}  // namespace ksa
