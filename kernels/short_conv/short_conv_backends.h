// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/short_conv/short_conv.h"

// The convolution on the CPU. T: type of x and y.
namespace ksa::cpu {

template <typename T>
void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream);

template <typename T>
void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// The same on a GPU; fp32 and bf16.
namespace ksa::cuda {

void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream);
void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
