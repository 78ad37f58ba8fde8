#include "trainer/optim/optimizer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/clip_scale.h"

namespace ksa {
namespace {

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config,
                     ParameterStore& store,
                     Communicator& data_group,
                     Allocator& allocator,
                     const Stream& stream)
    : config_(config),
      store_(store),
      group_(data_group),
      allocator_(allocator),
      stats_(Tensor::Empty({2}, DType::kF64, allocator)),
      scale_(Tensor::Empty({1}, DType::kF64, allocator)),
      read_back_(2 * SizeOf(DType::kF64), stream) {}

void Optimizer::BeginUpdate(const Stream& stream) {
  store_.BeginUpdate();
  Zero(stats_, stream);
}

UpdateResult Optimizer::Step(double lr, int64_t update, const Stream& stream) {
  UpdateResult result;
  store_.FinishGradients(stream);
  auto start = std::chrono::steady_clock::now();
  ReduceGradients();
  result.comm_ms += MillisecondsSince(start);
  // Every rank sums the range it writes to checkpoints, so that each element counts once and the sum of the ranks'
  // parts is the same whether the gradients were scattered or not.
  const FlatRange range = store_.write_range();
  SumOfSquares(store_.grads().Rows(range.begin, range.size()), stats_.Rows(1, 1), stream, &allocator_);
  start = std::chrono::steady_clock::now();
  group_.AllReduceSum(stats_);
  result.comm_ms += MillisecondsSince(start);
  ClipScale({.stats = stats_, .scale = scale_, .clip = config_.clip_grad_norm}, stream);
  ApplyAdamW(lr, update, stream);
  start = std::chrono::steady_clock::now();
  if (store_.shard().size() < store_.padded_size()) {
    group_.AllGather(store_.weights());
  }
  result.comm_ms += MillisecondsSince(start);

  const TensorView stats{read_back_.data(), DType::kF64, {}, {2}};
  CopyToHost(stats_, stats, stream);
  result.loss_sum = stats.As<double>()[0];
  result.grad_norm = std::sqrt(stats.As<double>()[1]);
  result.applied = std::isfinite(result.loss_sum) && std::isfinite(result.grad_norm);
  return result;
}

void Optimizer::ReduceGradients() {
  if (group_.size() == 1) {
    return;
  }
  if (store_.shard().size() < store_.padded_size()) {
    group_.ReduceScatterSum(store_.grads());
  } else {
    group_.AllReduceSum(store_.grads());
  }
}

void Optimizer::ApplyAdamW(double lr, int64_t update, const Stream& stream) {
  const FlatRange shard = store_.shard();
  const FlatRange decaying = {0, store_.decay_end()};
  const FlatRange others = {store_.decay_end(), store_.padded_size()};
  for (const auto& [range, weight_decay] : {std::pair{decaying, config_.weight_decay}, std::pair{others, 0.0}}) {
    const int64_t begin = std::max(range.begin, shard.begin);
    const int64_t end = std::min(range.end, shard.end);
    if (begin >= end) {
      continue;
    }
    const auto local = [&](const TensorView& x) { return x.Rows(begin - shard.begin, end - begin); };
    AdamW({.weight = local(store_.master()),
           .grad = store_.grads().Rows(begin, end - begin),
           .exp_avg = local(store_.exp_avg()),
           .exp_avg_sq = local(store_.exp_avg_sq()),
           .compute = store_.has_separate_master() ? store_.weights().Rows(begin, end - begin) : TensorView{},
           .grad_scale = scale_,
           .lr = lr,
           .beta1 = config_.beta1,
           .beta2 = config_.beta2,
           .eps = config_.eps,
           .weight_decay = weight_decay,
           .step = update},
          stream);
  }
}

}  // namespace ksa
