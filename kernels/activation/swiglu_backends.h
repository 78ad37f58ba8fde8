// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/activation/swiglu.h"

// SwiGLU on the CPU.
namespace ksa::cpu {

template <typename T>
void SwigluForward(const SwigluForwardArgs& args, const Stream& stream);

template <typename T>
void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// SwiGLU on a GPU; fp32 and bf16.
namespace ksa::cuda {

void SwigluForward(const SwigluForwardArgs& args, const Stream& stream);
void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
