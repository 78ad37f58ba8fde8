// Copies of blocks of columns: between matrices [n, c] that are wide and the parts of their columns that belong
// together, such as the heads of one rank.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Columns [first, first + columns) of all rows of a tensor [n, ...]; a row's elements are its columns.
struct ColumnBlock {
  TensorView rows;
  int64_t first = 0;
  int64_t columns = 0;
};

// to = from, element by element: blocks of the same type (any) and of as many rows and columns, which share no element.
// The other columns are not touched.
void CopyBlock(const ColumnBlock& from, const ColumnBlock& to, const Stream& stream);

}  // namespace ksa
