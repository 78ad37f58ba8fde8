// A causal convolution of a few taps along the text of a document, each channel by itself:
//
//   u_t = sum over j in 0 .. K-1 of w[c, 0, K-1-j] · x_(t-j),   x = 0 before the document's start
//
// so tap K-1 weighs the row itself. No bias. What becomes of u is the form: y = x + u beside the input (as in "Canon"
// layers, arXiv 2512.17351), or y = SiLU(u) in its place (as in Gated DeltaNet, arXiv 2412.06464). Summary rows and
// padding pass unchanged in both, and are read by nobody.
//
// Shapes: n rows, c channels, K taps. Rows are those of a SummaryLayout, all of them or its text rows. Where that is a
// part of its sequences, the K-1 rows before each run of chunks that is here come beside it, as `halo`: see ConvRows.
#pragma once

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

inline constexpr int kMostConvTaps = 16;

enum class ConvForm : int {
  kResidual,  // y = x + u
  kSilu,      // y = SiLU(u) = u / (1 + e^-u)
};

struct ShortConvForwardArgs {
  TensorView x;       // [n, c]
  TensorView halo{};  // [halo rows of ConvRows, c]; empty where the layout has whole sequences
  TensorView weight;  // [c, 1, K], 1 <= K <= kMostConvTaps
  TensorView y;       // [n, c] out, may not alias x
  SummaryLayout layout;
  ConvForm form = ConvForm::kResidual;
};

// In the accumulation type, rounded once.
void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream);

struct ShortConvBackwardArgs {
  TensorView dy;       // [n, c]
  TensorView x;        // [n, c]
  TensorView halo{};   // as in forward
  TensorView weight;   // [c, 1, K]
  TensorView dx;       // [n, c] out, may not alias dy
  TensorView dhalo{};  // out, shaped like halo: what rows that are here leave for rows that are not
  TensorView dweight;  // [c, 1, K] accumulation type
  bool accumulate = true;
  SummaryLayout layout;
  ConvForm form = ConvForm::kResidual;
  // Of scratch on a GPU, freed before the call returns. The CPU does not use it.
  Allocator* allocator = nullptr;
};

// u is computed again of x. The order of additions depends on the shapes alone.
void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream);

}  // namespace ksa
