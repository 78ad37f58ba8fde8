// SwiGLU on the CPU. Arguments are checked already.
#pragma once

#include "kernels/activation/swiglu.h"

namespace ksa::cpu {

template <typename T>
void SwigluForward(const SwigluForwardArgs& args, const Stream& stream);

template <typename T>
void SwigluBackward(const SwigluBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu
