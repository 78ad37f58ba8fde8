// Per-head RMSNorm and rotary embedding on the CPU. T: type of x and y; arguments are checked already.
#pragma once

#include "kernels/rope/qk_norm_rope.h"

namespace ksa::cpu {

// The longest head: rows are worked on in buffers on the stack.
inline constexpr int64_t kMaxHeadDim = 1024;

template <typename A>
void FillRopeTable(const TensorView& table, double theta, const Stream& stream);

template <typename T>
void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream);

template <typename T>
void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu
