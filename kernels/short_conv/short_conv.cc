#include "kernels/short_conv/short_conv.h"

#include <initializer_list>

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/short_conv/conv_rows.h"
#include "kernels/short_conv/short_conv_backends.h"
#include "kernels/short_conv/short_conv_scratch.h"

namespace ksa {
namespace {

// What forward and backward have in common.
template <typename Args>
void CheckCall(const ArgumentCheck& check, const Args& args) {
  const DType dtype = args.x.dtype;
  check.Floating("x", args.x);
  check.Rank("x", args.x, 2);
  check.Rank("weight", args.weight, 3);
  const Shape shape = args.x.shape;
  check.Tensor("x", args.x, dtype, shape);
  check.Within("taps", args.weight.shape[2], 1, kMostConvTaps);
  check.Tensor("weight", args.weight, dtype, {shape[1], 1, args.weight.shape[2]});
  const SummaryLayout& layout = args.layout;
  KSA_CHECK(args.x.rows() == layout.rows() || args.x.rows() == layout.text_rows(),
            "short convolution: x has {} rows; the layout has {} rows, {} of text",
            args.x.rows(),
            layout.rows(),
            layout.text_rows());
  const ConvRows rows = {layout, static_cast<int32_t>(args.weight.shape[2]) - 1};
  if (rows.halo_rows() > 0) {
    check.Tensor("halo", args.halo, dtype, {rows.halo_rows(), shape[1]});
  } else {
    KSA_CHECK(args.halo.empty(), "short convolution: a halo of {} rows; nothing reads it", args.halo.rows());
  }
}

// `factor`: operations for each element and tap. Backward through SiLU makes the sums again.
template <typename Args>
OpWork WorkOf(const Args& args, std::initializer_list<TensorView> moved, int64_t factor) {
  OpWork work = MovedBy(WorkKind::kRows, moved);
  const int64_t taps = args.layout.text_rows() * args.weight.size();
  work.useful = work.done = factor * taps;
  work.done += factor > 2 && args.form == ConvForm::kSilu ? 2 * taps : 0;
  return work;
}

}  // namespace

void ShortConvForward(const ShortConvForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("ShortConvForward", stream);
  CheckCall(check, args);
  check.Tensor("y", args.y, args.x.dtype, args.x.shape);
  RunOp(
      "ShortConvForward",
      stream,
      {args.x.shape},
      [&] {
        return WorkOf(args, {args.x, args.y}, 2);
      },
      [&] {
        if (!stream.device.IsCpu()) {
          KSA_CUDA_OR_FAIL("ShortConvForward", stream, cuda::ShortConvForward(args, stream));
          return;
        }
        DispatchFloating(args.x.dtype, [&](auto element) { cpu::ShortConvForward<decltype(element)>(args, stream); });
      });
}

void ShortConvBackward(const ShortConvBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("ShortConvBackward", stream);
  CheckCall(check, args);
  check.Tensor("dy", args.dy, args.x.dtype, args.x.shape);
  check.Tensor("dx", args.dx, args.x.dtype, args.x.shape);
  if (!args.halo.empty()) {
    check.Tensor("dhalo", args.dhalo, args.x.dtype, args.halo.shape);
  }
  check.Tensor("dweight", args.dweight, AccumulationType(args.x.dtype), args.weight.shape);
  RunOp(
      "ShortConvBackward",
      stream,
      {args.x.shape},
      [&] {
        return WorkOf(args, {args.dy, args.x, args.dx}, 4);
      },
      [&] {
        if (!stream.device.IsCpu()) {
          if (stream.dry) {
            const Tensor partials = ShortConvBackwardPartials(args);
            static_cast<void>(ShortConvSumGradients(args));
          }
          KSA_CUDA_OR_FAIL("ShortConvBackward", stream, cuda::ShortConvBackward(args, stream));
          return;
        }
        DispatchFloating(args.x.dtype, [&](auto element) { cpu::ShortConvBackward<decltype(element)>(args, stream); });
      });
}

}  // namespace ksa
