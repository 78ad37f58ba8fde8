// Token and summary embedding.
//
// Shapes: n rows of the layout, v table rows, d model dim. Text row r reads table[ids[r]]; the row of summary a of any
// chunk reads summary_table[a].
#pragma once

#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct EmbeddingForwardArgs {
  TensorView ids;              // [text rows] int32, 0 <= id < v; else an Error(kBadData)
  TensorView table;            // [v, d]
  TensorView summary_table{};  // [m, d]; empty when the layout has no summary rows
  TensorView y;                // [n, d] out
  SummaryLayout layout;
};

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);

// Gradients in a fixed order of additions: rows in ascending order, whatever the number of threads.
struct EmbeddingBackwardArgs {
  TensorView ids;               // [text rows] int32
  TensorView dy;                // [n, d]
  TensorView dtable;            // [v, d] accumulation type, added to
  TensorView dsummary_table{};  // [m, d] accumulation type, added to; or empty
  SummaryLayout layout;
};

void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa
