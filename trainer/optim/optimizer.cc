#include "trainer/optim/optimizer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/copy/elementwise.h"
#include "kernels/optimizer/adamw.h"

namespace ksa {
namespace {

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config,
                     ParameterStore& store,
                     Communicator& data_group,
                     Allocator& allocator)
    : config_(config), store_(store), group_(data_group), partial_(Tensor::Empty({1}, DType::kF64, allocator)) {}

UpdateResult Optimizer::Step(double lr, int64_t update, const Stream& stream) {
  UpdateResult result;
  store_.FinishGradients(stream);
  auto start = std::chrono::steady_clock::now();
  ReduceGradients();
  result.comm_ms += MillisecondsSince(start);
  result.grad_norm = std::sqrt(SquaredNorm(stream));
  result.applied = std::isfinite(result.grad_norm);
  if (!result.applied) {
    return result;
  }
  const double clip = config_.clip_grad_norm;
  const double scale = clip > 0.0 ? std::min(1.0, clip / (result.grad_norm + 1e-6)) : 1.0;
  ApplyAdamW(lr, update, scale, stream);
  store_.CastMasterToWeights(stream);
  start = std::chrono::steady_clock::now();
  if (store_.shard().size() < store_.padded_size()) {
    group_.AllGather(store_.weights());
  }
  result.comm_ms += MillisecondsSince(start);
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

double Optimizer::SquaredNorm(const Stream& stream) {
  // Every rank sums the range it writes to checkpoints, so that each element counts once and the sum of the ranks'
  // parts is the same whether the gradients were scattered or not.
  const FlatRange range = store_.write_range();
  SumOfSquares(store_.grads().Rows(range.begin, range.size()), partial_, stream);
  return group_.Sum(*partial_.As<double>());
}

void Optimizer::ApplyAdamW(double lr, int64_t update, double grad_scale, const Stream& stream) {
  const FlatRange shard = store_.shard();
  for (const Parameter& parameter : store_.parameters()) {
    const int64_t begin = std::max(parameter.offset, shard.begin);
    const int64_t end = std::min(parameter.offset + parameter.spec.shape.size(), shard.end);
    if (begin >= end) {
      continue;
    }
    const auto local = [&](const TensorView& x) { return x.Rows(begin - shard.begin, end - begin); };
    AdamW({.weight = local(store_.master()),
           .grad = store_.grads().Rows(begin, end - begin),
           .exp_avg = local(store_.exp_avg()),
           .exp_avg_sq = local(store_.exp_avg_sq()),
           .lr = lr,
           .beta1 = config_.beta1,
           .beta2 = config_.beta2,
           .eps = config_.eps,
           .weight_decay = parameter.spec.decays ? config_.weight_decay : 0.0,
           .grad_scale = grad_scale,
           .step = update},
          stream);
  }
}

}  // namespace ksa
