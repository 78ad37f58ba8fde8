// RMSNorm on the CPU. T: type of x, y, weights and their gradients; arguments are checked already.
#pragma once

#include "kernels/norm/rms_norm.h"

namespace ksa::cpu {

template <typename T>
void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream);

template <typename T>
void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu
