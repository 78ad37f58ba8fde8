#include "kernels/copy/elementwise.h"
#include "kernels/core/cuda.h"
#include "kernels/device/row_totals.cuh"
#include "kernels/gemm/gemm.h"
#include "kernels/loss/linear_cross_entropy_backends.h"
#include "kernels/loss/linear_cross_entropy_scratch.h"
#include "kernels/loss/softmax_rows_cuda.h"
#include "kernels/loss/softmax_shard_cuda.h"
#include "kernels/loss/softmax_terms_cuda.h"
#include "kernels/loss/target_margin_cuda.h"

namespace ksa::cuda {
namespace {

// Losses and gradients of a chunk whose logits are there. `stats` has room for all parts; empty: there is one, and
// nothing but the cross-entropy.
void Softmax(const LinearCrossEntropyArgs& args,
             const SoftmaxRowsArgs& rows,
             const TensorView& stats,
             const Stream& stream) {
  if (stats.empty()) {
    SoftmaxRows(rows, stream);
    return;
  }
  const SoftmaxShardArgs shard{.logits = rows.logits,
                               .targets = rows.targets,
                               .stats = stats,
                               .losses = rows.losses,
                               .largest = rows.largest,
                               .gradient = rows.gradient,
                               .first_id = args.shard.first_id,
                               .vocabulary = VocabularyOf(args),
                               .part = args.shard.part,
                               .scale = rows.scale};
  ShardStatistics(shard, stream);
  args.shard.gather_stats(stats);
  FinishShard(shard, stream);
}

void SoftmaxWithTerms(const LinearCrossEntropyArgs& args,
                      const CrossEntropyScratch& scratch,
                      const SoftmaxRowsArgs& rows,
                      int64_t first,
                      const Stream& stream) {
  const int64_t count = rows.logits.rows();
  SoftmaxTermsArgs terms{.rows = rows,
                         .teacher = {},
                         .stats = StatisticsOf(args, scratch, count),
                         .terms = scratch.terms.As<float>() + args.x.rows() + first,
                         .term_stride = args.x.rows(),
                         .first_id = args.shard.first_id,
                         .vocabulary = VocabularyOf(args),
                         .part = args.shard.part,
                         .weights = args.weights};
  if (!args.teacher_x.empty()) {
    terms.teacher = scratch.teacher.view().Rows(0, count);
    Gemm({.a = args.teacher_x.Rows(first, count), .b = args.weight, .c = terms.teacher, .transpose_b = true}, stream);
  }
  TermStatistics(terms, stream);
  if (args.shard.parts > 1) {
    args.shard.gather_stats(terms.stats);
  }
  FinishTerms(terms, stream);
}

// Rows [first, first + rows).
void RunChunk(const LinearCrossEntropyArgs& args,
              const CrossEntropyScratch& scratch,
              float* losses,
              int64_t first,
              int64_t rows,
              const Stream& stream) {
  const TensorView x = args.x.Rows(first, rows);
  const TensorView logits = scratch.logits.view().Rows(0, rows);
  Gemm({.a = x, .b = args.weight, .c = logits, .transpose_b = true}, stream);
  TensorView gradient;
  if (!args.dx.empty()) {
    gradient = scratch.gradient.empty() ? logits : scratch.gradient.view().Rows(0, rows);
  }
  const SoftmaxRowsArgs softmax{.logits = logits,
                                .targets = args.targets.As<int32_t>() + first,
                                .losses = losses + first,
                                .largest = scratch.terms.empty() ? nullptr : scratch.terms.As<float>() + first,
                                .gradient = gradient,
                                .scale = static_cast<float>(args.grad_scale)};
  if (HasFurtherTerms(args)) {
    SoftmaxWithTerms(args, scratch, softmax, first, stream);
  } else {
    Softmax(args, softmax, StatisticsOf(args, scratch, rows), stream);
    if (!args.margin.empty()) {
      TargetMargin({.logits = logits,
                    .targets = args.targets.As<int32_t>() + first,
                    .stats = StatisticsOf(args, scratch, rows),
                    .margins = args.margin.As<float>() + first},
                   stream);
    }
  }
  if (args.dx.empty()) {
    return;
  }
  Gemm({.a = gradient, .b = args.weight, .c = args.dx.Rows(first, rows)}, stream);
  if (args.dweight.empty()) {
    return;
  }
  const bool add = args.accumulate || first > 0;
  Gemm({.a = gradient, .b = x, .c = args.dweight, .transpose_a = true, .beta = add ? 1.0 : 0.0}, stream);
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream) {
  if (args.x.dtype == DType::kF64) {
    Fail(ExitCode::kInternal, "LinearCrossEntropy: GPUs compute in fp32 and bf16, not in fp64");
  }
  const int64_t n = args.x.rows();
  if (!args.dx.empty() && n == 0 && !args.accumulate && !args.dweight.empty()) {
    Zero(args.dweight, stream);
  }
  const int64_t chunk = CrossEntropyChunk(args);
  const CrossEntropyScratch scratch = TakeCrossEntropyScratch(args);
  float* losses = args.row_loss.empty() ? scratch.losses.As<float>() : args.row_loss.As<float>();
  for (int64_t first = 0; first < n; first += chunk) {
    RunChunk(args, scratch, losses, first, std::min(chunk, n - first), stream);
  }
  device::AddSumOfRows("SumLosses", losses, n, args.loss_sum.As<double>(), stream);
  if (!args.term_sums.empty()) {
    auto* sums = args.term_sums.As<double>();
    for (int term = 0; term < (HasFurtherTerms(args) ? 3 : 0); ++term) {
      device::AddSumOfRows("SumLosses", scratch.terms.As<float>() + (term + 1) * n, n, sums + term, stream);
    }
    if (!HasFurtherTerms(args)) {
      device::AddSumOfRows("SumLosses", losses, n, sums, stream);  // the cross-entropy is all there is
    }
  }
  if (!args.largest.empty()) {
    device::RaiseToLargest("SumLosses", scratch.terms.As<float>(), n, args.largest.As<double>(), stream);
  }
}

}  // namespace ksa::cuda
