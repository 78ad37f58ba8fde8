// Per-head RMSNorm and rotary embedding on a GPU; fp32 and bf16. Arguments are checked already.
#pragma once

#include "kernels/rope/qk_norm_rope.h"

namespace ksa::cuda {

void FillRopeTable(const TensorView& table, double theta, const Stream& stream);
void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream);
void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
