#include <cmath>
#include <type_traits>

#include "kernels/core/cuda.h"
#include "kernels/loss/softmax_pack.cuh"
#include "kernels/loss/softmax_partial.cuh"
#include "kernels/loss/softmax_shard_cuda.h"

namespace ksa::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kUnroll = 4;  // packs on their way at once
constexpr int kStatistics = 3;

template <typename G>
struct ShardRows {
  const float* logits;
  const int32_t* targets;
  float* stats;
  float* losses;
  float* largest;  // or null
  G* gradient;     // null: the losses alone
  int64_t n;
  int64_t v;
  int64_t first_id;
  int64_t vocabulary;
  int part;
  int parts;
  float scale;
};

// A block a row.
template <typename G, int kWidth>
__global__ void __launch_bounds__(kThreads, 3) ShardStatisticsKernel(const ShardRows<G> rows) {
  __shared__ Partial of_warps[kWarps];
  const int64_t row = blockIdx.x;
  const float* logits = rows.logits + row * rows.v;
  const int64_t id = rows.targets[row];
  Partial partial{-INFINITY, 0.0F};
  if (id >= 0) {
    ForPacks<kThreads, kUnroll, kWidth>(
        logits, rows.v, [&](const Pack<kWidth>& pack, int64_t /*i*/) { Add<kExact<G>>(pack, partial); });
  }
  const Partial all = JoinBlock<kExact<G>, kWarps>(partial, of_warps);
  if (threadIdx.x == 0) {
    const int64_t target = id - rows.first_id;
    float* stats = rows.stats + (rows.part * rows.n + row) * kStatistics;
    stats[0] = all.largest;
    stats[1] = all.sum;
    stats[2] = id >= 0 && target >= 0 && target < rows.v ? logits[target] : 0.0F;
  }
}

// Of one row, all parts' or one's.
struct RowStats {
  Partial partial;
  float target_logit;
};

template <typename G>
__device__ RowStats JoinParts(const ShardRows<G>& rows, int64_t row) {
  RowStats all{{-INFINITY, 0.0F}, 0.0F};
  const auto of = [&](int part) { return rows.stats + (part * rows.n + row) * kStatistics; };
  for (int part = 0; part < rows.parts; ++part) {
    all.partial.largest = fmaxf(all.partial.largest, of(part)[0]);
    all.target_logit += of(part)[2];
  }
  for (int part = 0; part < rows.parts; ++part) {
    const float largest = of(part)[0];
    const bool same = largest == all.partial.largest;
    all.partial.sum += same ? of(part)[1] : of(part)[1] * Exponential<kExact<G>>(largest - all.partial.largest);
  }
  return all;
}

// A block a row.
template <typename G, int kWidth>
__global__ void __launch_bounds__(kThreads, 3) FinishShardKernel(const ShardRows<G> rows) {
  const int64_t row = blockIdx.x;
  const float* logits = rows.logits + row * rows.v;
  const int64_t id = rows.targets[row];
  const RowStats all = JoinParts(rows, row);
  if (threadIdx.x == 0) {
    const float loss = logf(all.partial.sum) - (all.target_logit - all.partial.largest);
    rows.losses[row] = id < 0 ? 0.0F : (id < rows.vocabulary ? loss : NAN);
    if (rows.largest != nullptr) {
      rows.largest[row] = id < 0 ? -INFINITY : all.partial.largest;
    }
  }
  if (rows.gradient == nullptr) {
    return;
  }
  G* gradient = rows.gradient + row * rows.v;
  if (id < 0) {
    const Pack<kWidth> zero{};
    for (int64_t i = threadIdx.x * kWidth; i < rows.v; i += kThreads * kWidth) {
      zero.Store(gradient + i);
    }
    return;
  }
  const int64_t target = id - rows.first_id;
  const float factor = id < rows.vocabulary ? rows.scale / all.partial.sum : NAN;
  ForPacks<kThreads, kUnroll, kWidth>(logits, rows.v, [&](Pack<kWidth>& pack, int64_t i) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float softmax = Exponential<kExact<G>>(pack.x[e] - all.partial.largest) * factor;
      pack.x[e] = i + e == target ? softmax - rows.scale : softmax;
    }
    pack.Store(gradient + i);
  });
}

template <typename G>
ShardRows<G> RowsOf(const SoftmaxShardArgs& args) {
  return {.logits = args.logits.As<float>(),
          .targets = args.targets,
          .stats = args.stats.As<float>(),
          .losses = args.losses,
          .largest = args.largest,
          .gradient = args.gradient.As<G>(),
          .n = args.logits.rows(),
          .v = args.logits.cols(),
          .first_id = args.first_id,
          .vocabulary = args.vocabulary,
          .part = args.part,
          .parts = static_cast<int>(args.stats.rows()),
          .scale = args.scale};
}

LaunchShape ShapeOf(const SoftmaxShardArgs& args) {
  return {.grid = dim3(static_cast<unsigned>(args.logits.rows())), .block = dim3(kThreads)};
}

// call(gradient element, width of a pack)
template <typename Call>
void DispatchPacks(const SoftmaxShardArgs& args, const Call& call) {
  const auto with_width = [&](auto element) {
    if (args.logits.cols() % 4 == 0) {
      call(element, std::integral_constant<int, 4>());
    } else {
      call(element, std::integral_constant<int, 1>());
    }
  };
  args.gradient.dtype == DType::kBF16 ? with_width(BFloat16()) : with_width(0.0F);
}

}  // namespace

void ShardStatistics(const SoftmaxShardArgs& args, const Stream& stream) {
  DispatchPacks(args, [&](auto element, auto width) {
    using G = decltype(element);
    Launch("ShardStatisticsKernel", stream, ShapeOf(args), ShardStatisticsKernel<G, width()>, RowsOf<G>(args));
  });
}

void FinishShard(const SoftmaxShardArgs& args, const Stream& stream) {
  DispatchPacks(args, [&](auto element, auto width) {
    using G = decltype(element);
    Launch("FinishShardKernel", stream, ShapeOf(args), FinishShardKernel<G, width()>, RowsOf<G>(args));
  });
}

}  // namespace ksa::cuda
