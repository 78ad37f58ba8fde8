// ClipScale on a GPU. Arguments are checked already.
#pragma once

#include "kernels/optimizer/clip_scale.h"

namespace ksa::cuda {

void ClipScale(const ClipScaleArgs& args, const Stream& stream);

}  // namespace ksa::cuda
