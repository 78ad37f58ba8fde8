// Rows from one place to another: what decoding keeps, and what it takes out again.
#pragma once

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// to[to_rows[i]] = from[from_rows[i]] for i in [0, n), bit by bit; a row's elements are its columns. Rows that are not
// named are not touched; no row of `to` is named twice. An empty list of rows is 0, 1, ..., and one of both is given.
// Row numbers lie where the rows lie. On a GPU nobody looks at them: whoever uploads them has checked them.
struct MoveRowsArgs {
  TensorView from;         // [a, ...]
  TensorView from_rows{};  // [n] int32
  TensorView to;           // [b, ...], as `from`; shares no element with it
  TensorView to_rows{};    // [n] int32
};

void MoveRows(const MoveRowsArgs& args, const Stream& stream);

}  // namespace ksa
