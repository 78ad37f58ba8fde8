// The oracle of the attention kernels: explicit softmax over all rows, written from `Visible` and from nothing else.
//
// The arguments are those of AttentionForward and AttentionBackward, and so are the shapes. Arithmetic is plain loops
// in the accumulation type: with fp64 tensors this is the reference, with fp32 and bf16 tensors it shows the error that
// the dtype itself costs. Host memory, one thread, time O(rows² · heads): for tests. args.lse and args.allocator are
// not read; backward reads args.out.
#pragma once

#include "kernels/attention/attention.h"

namespace ksa {

void AttentionReferenceForward(const AttentionForwardArgs& args);
void AttentionReferenceBackward(const AttentionBackwardArgs& args);

}  // namespace ksa
