// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/clip_scale.h"

// AdamW on the CPU. A: type of weights, gradients and moments.
namespace ksa::cpu {

template <typename A>
void AdamW(const AdamWArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// AdamW on a GPU, in fp32.
namespace ksa::cuda {

void AdamW(const AdamWArgs& args, const Stream& stream);

void ClipScale(const ClipScaleArgs& args, const Stream& stream);

}  // namespace ksa::cuda
