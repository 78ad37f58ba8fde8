#include "kernels/latent/absorbed_heads.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/latent/latent_heads_backends.h"

namespace ksa {
namespace {

// A product of each row and head.
OpWork WorkOf(const TensorView& x, const TensorView& y, const TensorView& weight, int64_t columns) {
  OpWork work = {.kind = WorkKind::kRows};
  work.useful = work.done = 2 * x.rows() * x.shape[1] * columns * weight.shape[2];
  work.bytes = x.bytes() + y.bytes() + weight.shape[0] * columns * weight.shape[2] * SizeOf(weight.dtype);
  return work;
}

void CheckWeight(const ArgumentCheck& check, const TensorView& x, const TensorView& weight) {
  check.Floating("x", x);
  check.Rank("x", x, 3);
  check.Rank("weight", weight, 3);
  check.Tensor("x", x, x.dtype, x.shape);
  check.Tensor("weight", weight, x.dtype, {x.shape[1], weight.shape[1], weight.shape[2]});
}

}  // namespace

void AbsorbQueries(const AbsorbQueriesArgs& args, const Stream& stream) {
  constexpr const char* kOp = "AbsorbQueries";
  const ArgumentCheck check(kOp, stream);
  CheckWeight(check, args.q, args.weight);
  check.Rank("y", args.y, 3);
  const int64_t rope = args.y.shape[2] - args.weight.shape[2];
  const int64_t nope = args.q.shape[2] - rope;
  check.Within("rope", rope, 0, args.q.shape[2]);
  check.Within("nope", nope, 0, args.weight.shape[1]);
  check.Tensor("y", args.y, args.q.dtype, {args.q.rows(), args.q.shape[1], args.y.shape[2]});
  RunOp(
      kOp,
      stream,
      {args.q.shape},
      [&] { return WorkOf(args.q, args.y, args.weight, nope); },
      [&] {
        if (!stream.device.IsCpu()) {
          KSA_CUDA_OR_FAIL(kOp, stream, cuda::AbsorbQueries(args, stream));
          return;
        }
        DispatchFloating(args.q.dtype, [&](auto element) { cpu::AbsorbQueries<decltype(element)>(args, stream); });
      });
}

void ExpandValues(const ExpandValuesArgs& args, const Stream& stream) {
  constexpr const char* kOp = "ExpandValues";
  const ArgumentCheck check(kOp, stream);
  CheckWeight(check, args.x, args.weight);
  check.Rank("y", args.y, 3);
  const int64_t values = args.y.shape[2];
  check.Within("values", values, 1, args.weight.shape[1]);
  check.Tensor("x", args.x, args.x.dtype, {args.x.rows(), args.x.shape[1], args.weight.shape[2]});
  check.Tensor("y", args.y, args.x.dtype, {args.x.rows(), args.x.shape[1], values});
  RunOp(
      kOp,
      stream,
      {args.x.shape},
      [&] { return WorkOf(args.x, args.y, args.weight, values); },
      [&] {
        if (!stream.device.IsCpu()) {
          KSA_CUDA_OR_FAIL(kOp, stream, cuda::ExpandValues(args, stream));
          return;
        }
        DispatchFloating(args.x.dtype, [&](auto element) { cpu::ExpandValues<decltype(element)>(args, stream); });
      });
}

}  // namespace ksa
