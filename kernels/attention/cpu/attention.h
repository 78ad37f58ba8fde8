// CPU attention: tiled online softmax on segregated rows. Internal to the family: call AttentionForward and
// AttentionBackward, which check the arguments.
//
// Text queries are taken in tiles of consecutive rows (position, query head of one key/value head): the lanes of a pair
// of vectors. Keys and values are copied once, by head, into padded rows of the accumulation type. Each lane sees two
// ranges of keys, text and summaries; a tile visits the hull of its lanes' ranges, vector by vector, and compares
// limits only where not every lane of the vector sees the key. Summary queries see their own chunk alone and are done
// one by one.
#pragma once

#include "kernels/attention/attention.h"

namespace ksa::cpu_attention {

// T: double, float or BFloat16. `scratch` lives on the CPU.
template <typename T>
void Forward(const AttentionForwardArgs& args, int threads, Allocator& scratch);

template <typename T>
void Backward(const AttentionBackwardArgs& args, int threads, Allocator& scratch);

extern template void Forward<double>(const AttentionForwardArgs&, int, Allocator&);
extern template void Forward<float>(const AttentionForwardArgs&, int, Allocator&);
extern template void Forward<BFloat16>(const AttentionForwardArgs&, int, Allocator&);
extern template void Backward<double>(const AttentionBackwardArgs&, int, Allocator&);
extern template void Backward<float>(const AttentionBackwardArgs&, int, Allocator&);
extern template void Backward<BFloat16>(const AttentionBackwardArgs&, int, Allocator&);

}  // namespace ksa::cpu_attention
