// Per-head RMSNorm (optional) followed by rotary embedding, for q or for k.
//
// Shapes: n rows, h heads, e head dim (even). Row r stands at position layout.Position(r + first_row). RoPE is the
// half-split form: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin) with x1 the first e/2 elements of a head and angle
// position · theta^(-2i/e) (Su et al. 2021; the "rotate half" of Llama and Qwen). The norm is over e, weight [e];
// rows from `split` on use weight_summary when there is one.
//
// A row that stands beyond the table is an Error. Where documents lie on a GPU nobody looks at them: the table must
// then have an entry for every position that a sequence could have, layout.total().
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Writes cos and sin of position p and frequency i at table[p, i, 0..1]; angles are computed in double.
void FillRopeTable(const TensorView& table, double theta, const Stream& stream);  // [positions, e/2, 2] accum. type

struct QkNormRopeForwardArgs {
  TensorView x;                 // [n, h, e]; 2 <= e <= 1024
  TensorView weight{};          // [e], or empty: no norm
  TensorView weight_summary{};  // [e] or empty
  TensorView table;             // [positions, e/2, 2] accumulation type
  TensorView y;                 // [n, h, e] out, may not alias x
  TensorView rstd{};            // [n, h] out, accumulation type; empty without norm
  SummaryLayout layout;
  int64_t first_row = 0;  // row of the layout that x's row 0 is
  int64_t split = 0;      // first row of x that uses weight_summary
  double eps = 1e-6;
};

void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream);

struct QkNormRopeBackwardArgs {
  TensorView dy;                 // [n, h, e]
  TensorView x{};                // [n, h, e]; empty without norm
  TensorView rstd{};             // [n, h]; empty without norm
  TensorView weight{};           // [e], or empty: no norm
  TensorView weight_summary{};   // [e] or empty
  TensorView table;              // [positions, e/2, 2]
  TensorView dx;                 // [n, h, e] out; may be dy without norm
  TensorView dweight{};          // [e] accumulation type, or empty
  TensorView dweight_summary{};  // [e] accumulation type, or empty
  SummaryLayout layout;
  int64_t first_row = 0;
  int64_t split = 0;
  bool accumulate = true;
  bool accumulate_summary = true;
  // Of scratch for the weights' gradients on a GPU, freed before the call returns. The CPU does not use it.
  Allocator* allocator = nullptr;
};

void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream);

}  // namespace ksa
