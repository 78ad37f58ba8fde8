#include "kernels/optimizer/clip_scale.h"

#include "kernels/core/checks.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/optimizer/clip_factor.h"
#include "kernels/optimizer/optimizer_backends.h"

namespace ksa {

void ClipScale(const ClipScaleArgs& args, const Stream& stream) {
  const ArgumentCheck check("ClipScale", stream);
  check.Tensor("stats", args.stats, DType::kF64, {2});
  check.Tensor("scale", args.scale, DType::kF64, {1});
  if (!(args.clip >= 0.0)) {
    Fail(ExitCode::kInternal, "ClipScale: clip is {}, it should be at least 0", args.clip);
  }
  if (!(args.most_norm >= 0.0)) {
    Fail(ExitCode::kInternal, "ClipScale: most_norm is {}, it should be at least 0", args.most_norm);
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.stats, args.scale}); };
  RunOp("ClipScale", stream, {args.stats.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("ClipScale", stream, cuda::ClipScale(args, stream));
      return;
    }
    const double* stats = args.stats.As<double>();
    *args.scale.As<double>() = ClipFactor(stats[0], stats[1], args.clip, args.most_norm);
  });
}

}  // namespace ksa
