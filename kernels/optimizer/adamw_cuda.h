// AdamW on a GPU, in fp32. Arguments are checked already.
#pragma once

#include "kernels/optimizer/adamw.h"

namespace ksa::cuda {

void AdamW(const AdamWArgs& args, const Stream& stream);

}  // namespace ksa::cuda
