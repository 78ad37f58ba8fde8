// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/rope/qk_norm_rope.h"

// Per-head RMSNorm and rotary embedding on the CPU. T: type of x and y.
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

// Per-head RMSNorm and rotary embedding on a GPU; fp32 and bf16.
namespace ksa::cuda {

void FillRopeTable(const TensorView& table, double theta, const Stream& stream);
void QkNormRopeForward(const QkNormRopeForwardArgs& args, const Stream& stream);
void QkNormRopeBackward(const QkNormRopeBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
