#include "kernels/latent/latent_heads.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/error.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/latent/latent_heads_backends.h"

namespace ksa {
namespace {

// Heads of keys and values, and what they are made of.
void CheckHeads(const ArgumentCheck& check,
                const TensorView& k,
                const TensorView& v,
                const TensorView& kv,
                const TensorView& rope) {
  check.Floating("k", k);
  check.Rank("k", k, 3);
  check.Rank("v", v, 3);
  check.Rank("rope", rope, 2);
  const int64_t n = k.rows();
  const int64_t h = k.shape[1];
  check.Within("rope columns", rope.cols(), 1, k.shape[2]);
  check.Tensor("k", k, k.dtype, {n, h, k.shape[2]});
  check.Tensor("v", v, k.dtype, {n, h, v.shape[2]});
  check.Tensor("kv", kv, k.dtype, {n, h, k.shape[2] - rope.cols() + v.shape[2]});
  check.Tensor("rope", rope, k.dtype, {n, rope.cols()});
}

}  // namespace

void RotateTails(const RotateTailsArgs& args, const Stream& stream) {
  const ArgumentCheck check("RotateTails", stream);
  check.Floating("x", args.x);
  check.Rank("x", args.x, 3);
  check.Rank("table", args.table, 3);
  check.Tensor("x", args.x, args.x.dtype, args.x.shape);
  check.Tensor("y", args.y, args.x.dtype, args.x.shape);
  check.Tensor("table", args.table, AccumulationType(args.x.dtype), {args.table.rows(), args.table.shape[1], 2});
  check.Within("rope columns", 2 * args.table.shape[1], 2, args.x.shape[2]);
  check.Within("first_row", args.first_row, 0, args.layout.rows() - args.x.rows());
  KSA_CHECK(args.table.rows() >= args.layout.total(),
            "RotateTails: the table ends at {}, a sequence has {} tokens; fill a longer table",
            args.table.rows(),
            args.layout.total());
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.x, args.y}); };
  RunOp("RotateTails", stream, {args.x.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("RotateTails", stream, cuda::RotateTails(args, stream));
      return;
    }
    DispatchFloating(args.x.dtype, [&](auto element) { cpu::RotateTails<decltype(element)>(args, stream); });
  });
}

void LatentHeadsForward(const LatentHeadsForwardArgs& args, const Stream& stream) {
  CheckHeads(ArgumentCheck("LatentHeadsForward", stream), args.k, args.v, args.kv, args.rope);
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.kv, args.rope, args.k, args.v}); };
  RunOp("LatentHeadsForward", stream, {args.k.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("LatentHeadsForward", stream, cuda::LatentHeadsForward(args, stream));
      return;
    }
    DispatchFloating(args.k.dtype, [&](auto element) { cpu::LatentHeadsForward<decltype(element)>(args, stream); });
  });
}

void LatentHeadsBackward(const LatentHeadsBackwardArgs& args, const Stream& stream) {
  CheckHeads(ArgumentCheck("LatentHeadsBackward", stream), args.dk, args.dv, args.dkv, args.drope);
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.dk, args.dv, args.dkv, args.drope}); };
  RunOp("LatentHeadsBackward", stream, {args.dk.shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("LatentHeadsBackward", stream, cuda::LatentHeadsBackward(args, stream));
      return;
    }
    DispatchFloating(args.dk.dtype, [&](auto element) { cpu::LatentHeadsBackward<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
