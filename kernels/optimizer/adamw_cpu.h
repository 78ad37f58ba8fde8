// AdamW on the CPU. A: type of weights, gradients and moments; arguments are checked already.
#pragma once

#include "kernels/optimizer/adamw.h"

namespace ksa::cpu {

template <typename A>
void AdamW(const AdamWArgs& args, const Stream& stream);

}  // namespace ksa::cpu
