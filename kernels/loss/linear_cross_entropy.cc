#include "kernels/loss/linear_cross_entropy.h"

#include <algorithm>

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/loss/linear_cross_entropy_backends.h"
#include "kernels/loss/linear_cross_entropy_scratch.h"

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
  check.Optional("margin", args.margin, AccumulationType(dtype), {n});
  KSA_CHECK(args.margin.empty() || (args.dx.empty() && !HasFurtherTerms(args)),
            "LinearCrossEntropy: margins are of passes without gradients and further terms");
  check.Elements("loss_sum", args.loss_sum, DType::kF64, 1);
  if (!args.dx.empty()) {
    check.Tensor("dx", args.dx, dtype, {n, d});
    check.Optional("dweight", args.dweight, AccumulationType(dtype), {v, d});
  }
  check.Optional("teacher_x", args.teacher_x, dtype, {n, d});
  check.Optional("term_sums", args.term_sums, DType::kF64, {3});
  check.Optional("largest", args.largest, DType::kF64, {1});
  KSA_CHECK(args.weights.kl == 0.0 || !args.teacher_x.empty(), "LinearCrossEntropy: a divergence without a teacher");
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

// Takes the scratch of a device, and lets parts of a vocabulary exchange what they do: a call a chunk of rows.
void RunDry(const LinearCrossEntropyArgs& args) {
  const CrossEntropyScratch scratch = TakeCrossEntropyScratch(args);
  const int64_t chunk = CrossEntropyChunk(args);
  for (int64_t first = 0; args.shard.parts > 1 && first < args.x.rows(); first += chunk) {
    args.shard.gather_stats(StatisticsOf(args, scratch, std::min(chunk, args.x.rows() - first)));
  }
}

// The logits' product, and with gradients those for x and for the weight. Logits are written and read by the softmax,
// which leaves their gradients, and these are read twice.
OpWork WorkOf(const LinearCrossEntropyArgs& args) {
  const int64_t logits = args.x.rows() * args.weight.rows();
  const bool gradients = !args.dx.empty();
  OpWork work = MovedBy(WorkKind::kProduct, {args.x, args.weight, args.targets, args.row_loss, args.margin});
  const int products = 1 + (gradients ? 1 : 0) + (gradients && !args.dweight.empty() ? 1 : 0);
  work.done = 2 * products * logits * args.x.cols();
  work.useful = work.done;
  work.bytes += 2 * logits * SizeOf(AccumulationType(args.x.dtype));
  if (!args.teacher_x.empty()) {
    work.done += 2 * logits * args.x.cols();
    work.useful = work.done;
    work.bytes += MovedBy(WorkKind::kProduct, {args.teacher_x, args.weight}).bytes;
    work.bytes += 3 * logits * SizeOf(AccumulationType(args.x.dtype));
  }
  if (gradients) {
    work.bytes += 3 * logits * SizeOf(args.x.dtype);
    work.bytes += MovedBy(WorkKind::kProduct, {args.x, args.weight, args.dx, args.dweight, args.dweight}).bytes;
  }
  return work;
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream) {
  Check(args, stream);
  RunOp(
      "LinearCrossEntropy",
      stream,
      {args.x.shape, args.weight.shape},
      [&] { return WorkOf(args); },
      [&] {
        if (!stream.device.IsCpu()) {
          if (stream.dry) {
            RunDry(args);
          }
          KSA_CUDA_OR_FAIL("LinearCrossEntropy", stream, cuda::LinearCrossEntropy(args, stream));
          return;
        }
        CheckTargets(args);
        DispatchFloating(args.x.dtype, [&](auto element) { cpu::LinearCrossEntropy<decltype(element)>(args, stream); });
      });
}

}  // namespace ksa
