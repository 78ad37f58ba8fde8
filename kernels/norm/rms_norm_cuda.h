// RMSNorm on a GPU; fp32 and bf16. Arguments are checked already.
#pragma once

#include "kernels/norm/rms_norm.h"

namespace ksa::cuda {

void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream);
void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
