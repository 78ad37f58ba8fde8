#include "kernels/norm/rms_norm.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/norm/rms_norm_backends.h"
#include "kernels/norm/rms_norm_scratch.h"

namespace ksa {
namespace {

void Check(const RmsNormForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("RmsNormForward", stream);
  const DType dtype = args.x.dtype;
  check.Floating("x", args.x);
  check.Rank("x", args.x, 2);
  const int64_t n = args.x.rows();
  const int64_t d = args.x.cols();
  check.Tensor("x", args.x, dtype, {n, d});
  check.Tensor("weight", args.weight, dtype, {d});
  check.Optional("weight_summary", args.weight_summary, dtype, {d});
  check.Tensor("y", args.y, dtype, {n, d});
  check.Tensor("rstd", args.rstd, AccumulationType(dtype), {n});
  if (!args.weight_summary.empty()) {
    check.Within("split", args.split, 0, n);
  }
  if (!args.residual.empty()) {
    check.Rank("residual", args.residual, 2);
    check.Within("rows of residual", args.residual.rows(), 0, n);
    check.Tensor("residual", args.residual, dtype, {args.residual.rows(), d});
    check.Tensor("sum_out", args.sum_out, dtype, {n, d});
  }
}

void Check(const RmsNormBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("RmsNormBackward", stream);
  const DType dtype = args.x.dtype;
  check.Floating("x", args.x);
  check.Rank("x", args.x, 2);
  const int64_t n = args.x.rows();
  const int64_t d = args.x.cols();
  check.Tensor("dy", args.dy, dtype, {n, d});
  check.Tensor("x", args.x, dtype, {n, d});
  check.Tensor("rstd", args.rstd, AccumulationType(dtype), {n});
  check.Tensor("weight", args.weight, dtype, {d});
  check.Optional("weight_summary", args.weight_summary, dtype, {d});
  check.Optional("dx_residual", args.dx_residual, dtype, {n, d});
  check.Tensor("dx", args.dx, dtype, {n, d});
  check.Optional("dweight", args.dweight, AccumulationType(dtype), {d});
  check.Optional("dweight_summary", args.dweight_summary, AccumulationType(dtype), {d});
  if (!args.weight_summary.empty()) {
    check.Within("split", args.split, 0, n);
  }
}

}  // namespace

void RmsNormForward(const RmsNormForwardArgs& args, const Stream& stream) {
  Check(args, stream);
  const auto work = [&] {
    const TensorView sum = args.residual.empty() ? TensorView() : args.sum_out;
    return MovedBy(WorkKind::kRows, {args.x, args.residual, sum, args.y, args.rstd});
  };
  RunOp("RmsNormForward", stream, {args.x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("RmsNormForward", stream, cuda::RmsNormForward(args, stream));
      return;
    }
    DispatchFloating(args.x.dtype, [&](auto element) { cpu::RmsNormForward<decltype(element)>(args, stream); });
  });
}

void RmsNormBackward(const RmsNormBackwardArgs& args, const Stream& stream) {
  Check(args, stream);
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.dy, args.x, args.rstd, args.dx_residual, args.dx}); };
  RunOp("RmsNormBackward", stream, {args.x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      if (stream.dry) {
        static_cast<void>(RmsNormBackwardPartials(args));
      }
      KSA_CUDA_OR_FAIL("RmsNormBackward", stream, cuda::RmsNormBackward(args, stream));
      return;
    }
    DispatchFloating(args.x.dtype, [&](auto element) { cpu::RmsNormBackward<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
