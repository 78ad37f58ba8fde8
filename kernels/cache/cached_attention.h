// Attention of a few queries to keys that are kept: one query a head and sequence, as in decoding.
//
// Each query says which rows it sees: kKeySpans runs of rows, all but the last of what is kept, the last one of rows
// that are new and are not kept. Softmax is over all of them together. Nothing is known here of sequences, windows and
// chunks: the spans are all there is.
//
// Shapes: n queries, h heads of queries, g of keys and values (head i reads i / (h/g)), e head dim of queries and keys,
// c of values.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// A ring is two runs, what lies beside it one, new rows one.
inline constexpr int kKeySpans = 4;

struct CachedAttentionArgs {
  TensorView q;                    // [n, h, e]
  TensorView k;                    // [rows, g, e]
  TensorView v{};                  // [rows, g, c]; empty: the first c columns of k (latents are key and value)
  TensorView new_k{};              // [new rows, g, e]; may be empty
  TensorView new_v{};              // as v is to k
  TensorView spans;                // [n, kKeySpans, 2] int32: first row, number of rows
  TensorView out;                  // [n, h, c] out
  int64_t most_keys = 0;           // that one of the queries sees
  double scale = 0.0;              // of scores; 0: 1/sqrt(e)
  Allocator* allocator = nullptr;  // of scratch on a GPU, freed before the call returns. The CPU does not use it.
};

// In the accumulation type, rounded once. The order of additions depends on the shapes and spans alone. A query that
// sees nothing has 0. On the CPU spans outside of the rows are an Error(kInternal); on a GPU nobody looks at them.
void CachedAttention(const CachedAttentionArgs& args, const Stream& stream);

// Keys of a query that are taken together, and how many such parts there are: partial sums are added in their order.
inline constexpr int64_t kKeysOfPart = 256;

[[nodiscard]] inline int64_t KeyParts(int64_t most_keys) {
  return (most_keys + kKeysOfPart - 1) / kKeysOfPart;
}

}  // namespace ksa
