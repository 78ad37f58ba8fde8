// The scratch that a call of attention takes on a GPU, for dry streams of a build without CUDA. A build with CUDA lets
// its own paths say it (cuda_paths.h), and a test holds both to the same.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/core/allocator.h"

namespace ksa::dry_attention {

// On the GPU that the fastest kernels are made for (sm_90a), in a build that has cuDNN: taken and given back.
void Forward(const AttentionForwardArgs& args, Allocator& scratch, const Stream& stream);
void Backward(const AttentionBackwardArgs& args, Allocator& scratch, const Stream& stream);

}  // namespace ksa::dry_attention
