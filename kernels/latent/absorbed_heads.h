// Heads of multi-head latent attention that are not expanded: what expands a latent to keys is applied to the query
// instead, and what expands it to values to the sum of latents (DeepSeek-V2, arXiv 2405.04434, 2.1.2). Latents are then
// key and value of all heads. More operations a pair of query and key, none a key: for decoding.
//
// Shapes: n rows, h heads, p = nope columns of a query, r = rope columns, d columns of a latent, c of a value. `weight`
// [h, p + c, d] holds of each head what makes p columns of its key, then its value.
#pragma once

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// y = [nope of q times the key part of the weight | rope of q].
struct AbsorbQueriesArgs {
  TensorView q;       // [n, h, p + r]
  TensorView weight;  // [h, p + c, d]
  TensorView y;       // [n, h, d + r] out
};

void AbsorbQueries(const AbsorbQueriesArgs& args, const Stream& stream);

// y = the value part of the weight times x.
struct ExpandValuesArgs {
  TensorView x;       // [n, h, d]
  TensorView weight;  // [h, p + c, d]
  TensorView y;       // [n, h, c] out
};

void ExpandValues(const ExpandValuesArgs& args, const Stream& stream);

}  // namespace ksa
