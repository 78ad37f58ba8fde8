// Copies, casts, sums and reductions on the CPU. Arguments are checked already.
#pragma once

#include "kernels/copy/elementwise.h"

namespace ksa::cpu {

template <typename From, typename To>
void Copy(const TensorView& from, const TensorView& to, const Stream& stream);

void Zero(const TensorView& x, const Stream& stream);

template <typename T>
void Add(const TensorView& a, const TensorView& b, const TensorView& y, const Stream& stream);

template <typename T>
void Axpby(double a, const TensorView& x, double b, const TensorView& y, const Stream& stream);

template <typename T>
void SumOfSquares(const TensorView& x, const TensorView& out, const Stream& stream);

}  // namespace ksa::cpu
