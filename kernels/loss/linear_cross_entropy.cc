#include "kernels/loss/linear_cross_entropy.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/loss/linear_cross_entropy_backends.h"

namespace ksa {
namespace {

void CheckShard(const ArgumentCheck& check, const LinearCrossEntropyArgs& args) {
  const VocabularyShard& shard = args.shard;
  const int64_t v = args.weight.rows();
  check.Within("vocabulary", VocabularyOf(args), v, INT32_MAX);
  check.Within("first_id", shard.first_id, 0, VocabularyOf(args) - v);
  check.Within("part", shard.part, 0, shard.parts - 1);
  KSA_CHECK(shard.parts > 1 || VocabularyOf(args) == v, "LinearCrossEntropy: one part that is not the vocabulary");
  KSA_CHECK(shard.parts == 1 || shard.gather_stats != nullptr, "LinearCrossEntropy: parts cannot exchange statistics");
}

void Check(const LinearCrossEntropyArgs& args, const Stream& stream) {
  const ArgumentCheck check("LinearCrossEntropy", stream);
  const DType dtype = args.x.dtype;
  check.Floating("x", args.x);
  check.Rank("x", args.x, 2);
  check.Rank("weight", args.weight, 2);
  const int64_t n = args.x.rows();
  const int64_t d = args.x.cols();
  const int64_t v = args.weight.rows();
  check.Within("vocabulary", v, 1, INT32_MAX);
  CheckShard(check, args);
  check.Tensor("x", args.x, dtype, {n, d});
  check.Tensor("weight", args.weight, dtype, {v, d});
  check.Elements("targets", args.targets, DType::kI32, n);
  check.Optional("row_loss", args.row_loss, AccumulationType(dtype), {n});
  check.Elements("loss_sum", args.loss_sum, DType::kF64, 1);
  if (!args.dx.empty()) {
    check.Tensor("dx", args.dx, dtype, {n, d});
    check.Tensor("dweight", args.dweight, AccumulationType(dtype), {v, d});
  }
  KSA_CHECK(args.allocator != nullptr, "LinearCrossEntropy needs an allocator for its scratch memory");
}

void CheckTargets(const LinearCrossEntropyArgs& args) {
  const int32_t* targets = args.targets.As<int32_t>();
  const int64_t vocabulary = VocabularyOf(args);
  for (int64_t r = 0; r < args.targets.size(); ++r) {
    if (targets[r] >= vocabulary) {
      Fail(ExitCode::kBadData,
           "LinearCrossEntropy: target {} at row {}, but the vocabulary has {} entries",
           targets[r],
           r,
           vocabulary);
    }
  }
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream) {
  Check(args, stream);
  RunOp("LinearCrossEntropy", stream, {args.x.shape, args.weight.shape}, [&] {
    if (!stream.device.IsCpu()) {
      KSA_CUDA_OR_FAIL("LinearCrossEntropy", stream, cuda::LinearCrossEntropy(args, stream));
      return;
    }
    CheckTargets(args);
    DispatchFloating(args.x.dtype, [&](auto element) { cpu::LinearCrossEntropy<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
