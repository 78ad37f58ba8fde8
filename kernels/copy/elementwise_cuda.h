// Copies, casts, sums and reductions on a GPU; fp32 and bf16. Arguments are checked already.
#pragma once

#include "kernels/copy/elementwise.h"

namespace ksa::cuda {

void Copy(const TensorView& from, const TensorView& to, const Stream& stream);
void Zero(const TensorView& x, const Stream& stream);
void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream);
void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream);
void SumOfSquares(const TensorView& x, const TensorView& out, Allocator& scratch, const Stream& stream);

}  // namespace ksa::cuda
