// Some rows of a matrix, by their numbers: taken out, and put back among zeros.
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Row i of the selection is row rows[i] - first_row of the matrix [n, d]. The numbers differ; on a GPU nobody looks
// whether they lie in the matrix.
struct RowSelection {
  TensorView rows;  // [m] int32
  int64_t first_row = 0;
};

// y [m, d] = the selected rows of x [n, d].
void GatherRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream);

// The selected rows of y [n, d] = x [m, d]; its other rows become 0.
void ScatterRows(const TensorView& x, const RowSelection& selection, const TensorView& y, const Stream& stream);

}  // namespace ksa
