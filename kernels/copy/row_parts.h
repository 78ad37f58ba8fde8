// Sums of a matrix that comes in parts: gradients of rows that several ranks, or several calls, have seen.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Rows [first, first + rows.rows()) of the sum get these rows [n, ...]; a row's elements are its columns.
struct RowPart {
  TensorView rows;
  int64_t first = 0;
};

// y [n, ...] = the sum of the parts, each element in their order, in the accumulation type and rounded once (with more
// than 48 parts once a group of 48). Rows that no part covers become 0. Parts have y's type and columns, lie within its
// rows, and share no element with y.
void SumRowParts(std::span<const RowPart> parts, const TensorView& y, const Stream& stream);

}  // namespace ksa
