#include "kernels/core/cuda.h"
#include "kernels/optimizer/clip_factor.h"
#include "kernels/optimizer/optimizer_backends.h"

namespace ksa::cuda {
namespace {

__global__ void ClipScaleKernel(const double* stats, double* scale, double clip, double most_norm) {
  *scale = ClipFactor(stats[0], stats[1], clip, most_norm);
}

}  // namespace

void ClipScale(const ClipScaleArgs& args, const Stream& stream) {
  Launch("ClipScale",
         stream,
         {dim3(1), dim3(1)},
         ClipScaleKernel,
         args.stats.As<double>(),
         args.scale.As<double>(),
         args.clip,
         args.most_norm);
}

}  // namespace ksa::cuda
