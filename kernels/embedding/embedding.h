// Token and summary embedding.
//
// Shapes: n rows of the layout, v table rows, d model dim. Text row r reads table[ids[r]]; the row of summary a of any
// chunk reads summary_table[a].
//
// 0 <= id < v. The CPU answers another id with an Error(kBadData). A GPU's ids are not seen by the host: whoever
// uploads them has checked them. There, a row with another id is NaN, so that the loss shows it, and its gradient goes
// nowhere; nothing outside the tables is read or written.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

struct EmbeddingForwardArgs {
  TensorView ids;              // [text rows] int32
  TensorView table;            // [v, d]
  TensorView summary_table{};  // [m, d]; empty when the layout has no summary rows
  TensorView y;                // [n, d] out
  SummaryLayout layout;
};

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);

// Gradients in a fixed order of additions: rows in ascending order, whatever the number of threads (on a GPU, in
// ascending groups of ascending rows).
struct EmbeddingBackwardArgs {
  TensorView ids;               // [text rows] int32
  TensorView dy;                // [n, d]
  TensorView dtable;            // [v, d] accumulation type, added to
  TensorView dsummary_table{};  // [m, d] accumulation type, added to; or empty
  SummaryLayout layout;
  // Of scratch on a GPU, about text rows times 16 bytes and an eighth of dy as fp32, freed before the call returns. The
  // CPU does not use it.
  Allocator* allocator = nullptr;
};

void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa
