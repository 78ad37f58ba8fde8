#include "kernels/copy/elementwise.h"
#include "kernels/core/cuda.h"
#include "kernels/gemm/gemm.h"
#include "kernels/loss/linear_cross_entropy_backends.h"
#include "kernels/loss/linear_cross_entropy_scratch.h"
#include "kernels/loss/softmax_rows_cuda.h"
#include "kernels/loss/softmax_shard_cuda.h"
#include "kernels/loss/target_margin_cuda.h"

namespace ksa::cuda {
namespace {

constexpr int kSumThreads = 1024;

// One block: thread t adds rows t, t + 1024, ..., and the threads' sums are added pairwise.
__global__ void __launch_bounds__(kSumThreads) SumLossesKernel(const float* losses, int64_t n, double* out) {
  __shared__ double sums[kSumThreads];
  double sum = 0.0;
  for (int64_t r = threadIdx.x; r < n; r += kSumThreads) {
    sum += static_cast<double>(losses[r]);
  }
  sums[threadIdx.x] = sum;
  for (unsigned half = kSumThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      sums[threadIdx.x] += sums[threadIdx.x + half];
    }
  }
  if (threadIdx.x == 0) {
    *out += sums[0];
  }
}

// Losses and gradients of a chunk whose logits are there. `stats` has room for all parts; empty: there is one.
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
                               .gradient = rows.gradient,
                               .first_id = args.shard.first_id,
                               .vocabulary = VocabularyOf(args),
                               .part = args.shard.part,
                               .scale = rows.scale};
  ShardStatistics(shard, stream);
  args.shard.gather_stats(stats);
  FinishShard(shard, stream);
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
  Softmax(args,
          {.logits = logits,
           .targets = args.targets.As<int32_t>() + first,
           .losses = losses + first,
           .gradient = gradient,
           .scale = static_cast<float>(args.grad_scale)},
          StatisticsOf(args, scratch, rows),
          stream);
  if (!args.margin.empty()) {
    TargetMargin({.logits = logits,
                  .targets = args.targets.As<int32_t>() + first,
                  .stats = StatisticsOf(args, scratch, rows),
                  .margins = args.margin.As<float>() + first},
                 stream);
  }
  if (args.dx.empty()) {
    return;
  }
  Gemm({.a = gradient, .b = args.weight, .c = args.dx.Rows(first, rows)}, stream);
  const bool add = args.accumulate || first > 0;
  Gemm({.a = gradient, .b = x, .c = args.dweight, .transpose_a = true, .beta = add ? 1.0 : 0.0}, stream);
}

}  // namespace

void LinearCrossEntropy(const LinearCrossEntropyArgs& args, const Stream& stream) {
  if (args.x.dtype == DType::kF64) {
    Fail(ExitCode::kInternal, "LinearCrossEntropy: GPUs compute in fp32 and bf16, not in fp64");
  }
  const int64_t n = args.x.rows();
  if (!args.dx.empty() && n == 0 && !args.accumulate) {
    Zero(args.dweight, stream);
  }
  const int64_t chunk = CrossEntropyChunk(args);
  const CrossEntropyScratch scratch = TakeCrossEntropyScratch(args);
  float* losses = args.row_loss.empty() ? scratch.losses.As<float>() : args.row_loss.As<float>();
  for (int64_t first = 0; first < n; first += chunk) {
    RunChunk(args, scratch, losses, first, std::min(chunk, n - first), stream);
  }
  Launch("SumLossesKernel",
         stream,
         {.grid = dim3(1), .block = dim3(kSumThreads)},
         SumLossesKernel,
         losses,
         n,
         args.loss_sum.As<double>());
}

}  // namespace ksa::cuda
