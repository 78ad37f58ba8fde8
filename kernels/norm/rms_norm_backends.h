// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/norm/rms_norm.h"

// RMSNorm on the CPU. T: type of x, y, weights and their gradients.
namespace ksa::cpu {

template <typename T>
void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream);

template <typename T>
void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// RMSNorm on a GPU; fp32 and bf16.
namespace ksa::cuda {

void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream);
void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
