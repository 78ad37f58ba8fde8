// SwiGLU on a GPU; fp32 and bf16. Arguments are checked already.
#pragma once

#include "kernels/activation/swiglu.h"

namespace ksa::cuda {

void SwigluForward(const SwigluForwardArgs& args, const Stream& stream);
void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
