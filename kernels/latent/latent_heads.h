// Heads of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): a head of a query or key is [nope | rope], the
// second part rotated by the row's position and, of keys, one for all heads.
//
// Shapes: n rows, h heads, p = nope columns, r = rope columns (even), c = value columns of a head. RoPE is the
// half-split form of kernels/rope, over the r columns; row i of the call stands at layout.Position(first_row + i).
#pragma once

#include <cstdint>

#include "kernels/core/device.h"
#include "kernels/core/summary_layout.h"
#include "kernels/core/tensor.h"

namespace ksa {

// y = x with the last r columns of every head rotated; `inverse`: rotated back, which is the gradient.
struct RotateTailsArgs {
  TensorView x;      // [n, h, p + r]
  TensorView table;  // [positions, r/2, 2] accumulation type, of FillRopeTable
  TensorView y;      // [n, h, p + r] out; may be x
  SummaryLayout layout;
  int64_t first_row = 0;
  bool inverse = false;
};

void RotateTails(const RotateTailsArgs& args, const Stream& stream);

// k = [nope of kv | rope], v = the rest of kv.
struct LatentHeadsForwardArgs {
  TensorView kv;    // [n, h, p + c]: a head is [nope p | value c]
  TensorView rope;  // [n, r]
  TensorView k;     // [n, h, p + r] out
  TensorView v;     // [n, h, c] out
};

void LatentHeadsForward(const LatentHeadsForwardArgs& args, const Stream& stream);

struct LatentHeadsBackwardArgs {
  TensorView dk;     // [n, h, p + r]
  TensorView dv;     // [n, h, c]
  TensorView dkv;    // [n, h, p + c] out
  TensorView drope;  // [n, r] out: the sum over heads, in order, in the accumulation type
};

void LatentHeadsBackward(const LatentHeadsBackwardArgs& args, const Stream& stream);

}  // namespace ksa
