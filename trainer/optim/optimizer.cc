#include "trainer/optim/optimizer.h"

#include <cmath>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/clip_scale.h"

namespace ksa {
namespace {

TensorView RowsOf(const TensorView& flat, const FlatRange& range) {
  return flat.Rows(range.begin, range.size());
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config,
                     ParameterStore& store,
                     const ProcessMesh& mesh,
                     Allocator& allocator,
                     const Stream& stream)
    : config_(config),
      store_(store),
      mesh_(mesh),
      allocator_(allocator),
      stats_(Tensor::Empty({2}, DType::kF64, allocator)),
      scale_(Tensor::Empty({1}, DType::kF64, allocator)),
      read_back_(2 * SizeOf(DType::kF64), stream),
      stalls_(mesh.world().size() > 1),
      reducer_(store, mesh, stalls_) {
  if (store.replicas() > 1) {
    static_cast<void>(mesh.replica_group(store.replicas()));  // all ranks make it here, together
  }
}

void Optimizer::BeginUpdate(const Stream& stream) {
  store_.BeginUpdate();
  reducer_.Begin();
  Zero(stats_, stream);
}

UpdateResult Optimizer::Step(double lr, int64_t update, const Stream& stream, double most_norm) {
  reducer_.Finish(stream);
  SumNorm(stream);
  ClipScale({.stats = stats_, .scale = scale_, .clip = config_.clip_grad_norm, .most_norm = most_norm}, stream);
  if (before_change_) {
    before_change_();
  }
  ApplyAdamW(lr, update, stream);

  const TensorView stats{read_back_.data(), DType::kF64, {}, {2}};
  CopyToHost(stats_, stats, stream);
  UpdateResult result;
  result.loss_sum = stats.As<double>()[0];
  result.grad_norm = std::sqrt(stats.As<double>()[1]);
  result.applied = std::isfinite(result.loss_sum) && std::isfinite(result.grad_norm) && result.grad_norm <= most_norm;
  result.comm_ms = stalls_.Take();
  return result;
}

// Every rank sums the elements it owns, so that each counts once and the sum of the ranks' parts is the same whether
// the gradients were scattered or not. The loss sum is whole on every tensor rank.
void Optimizer::SumNorm(const Stream& stream) {
  const TensorView squares = stats_.Rows(1, 1);
  for (const FlatRange& range : store_.owned()) {
    SumOfSquares(RowsOf(store_.grads(), range), squares, stream, &allocator_);
  }
  stalls_.Measure(stream, Ordering::kInOrder, [&] {
    mesh_.group(MeshAxis::kTensor).AllReduceSum("gradient norm over tensor ranks", squares, stream);
    mesh_.state_group().AllReduceSum("loss and gradient norm", stats_, stream);
  });
}

// Under ZeRO-1 the new weights of a bucket travel while the next one's are computed.
void Optimizer::ApplyAdamW(double lr, int64_t update, const Stream& stream) {
  if (!store_.is_sharded()) {
    UpdateShard({0, store_.padded_size()}, lr, update, stream);
    return;
  }
  Communicator& group = mesh_.state_group();
  for (const Bucket& bucket : store_.buckets()) {
    UpdateShard(bucket.part, lr, update, stream);
    stalls_.Measure(stream, Ordering::kUntilWait, [&] {
      group.AllGather("gather weights", RowsOf(store_.weights(), bucket.range), stream, Ordering::kUntilWait);
    });
  }
  stalls_.Measure(stream, Ordering::kInOrder, [&] { group.Wait(stream); });
}

void Optimizer::UpdateShard(const FlatRange& shard, double lr, int64_t update, const Stream& stream) {
  UpdateRange(Intersect(shard, {0, store_.decay_end()}), config_.weight_decay, lr, update, stream);
  UpdateRange(Intersect(shard, {store_.decay_end(), store_.padded_size()}), 0.0, lr, update, stream);
}

void Optimizer::UpdateRange(
    const FlatRange& range, double weight_decay, double lr, int64_t update, const Stream& stream) {
  if (range.size() == 0) {
    return;
  }
  AdamW({.weight = store_.Master(range),
         .grad = RowsOf(store_.grads(), range),
         .exp_avg = store_.State(store_.exp_avg(), range),
         .exp_avg_sq = store_.State(store_.exp_avg_sq(), range),
         .compute = store_.has_separate_master() ? RowsOf(store_.weights(), range) : TensorView{},
         .grad_scale = scale_,
         .lr = lr,
         .beta1 = config_.beta1,
         .beta2 = config_.beta2,
         .eps = config_.eps,
         .weight_decay = weight_decay,
         .step = update},
        stream);
}

}  // namespace ksa
