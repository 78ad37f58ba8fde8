#include "trainer/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/clip_scale.h"

namespace ksa {
namespace {

TensorView RowsOf(const TensorView& flat, const FlatRange& range) {
  return flat.Rows(range.begin, range.size());
}

int64_t RanksOf(const ProcessMesh& mesh) {
  return int64_t{1} * mesh.state_group().size() * mesh.Size(MeshAxis::kTensor);
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
      results_(Tensor::Empty({kStats + 2 * RanksOf(mesh)}, DType::kF64, allocator)),
      stats_(results_.Rows(0, kStats)),
      extremes_(results_.Rows(kStats, 2 * RanksOf(mesh))),
      own_extremes_(
          2 * (int64_t{1} * mesh.state_group().rank() * mesh.Size(MeshAxis::kTensor) + mesh.Rank(MeshAxis::kTensor))),
      lowest_(Tensor::Empty({2}, DType::kF64, allocator)),
      scale_(Tensor::Empty({1}, DType::kF64, allocator)),
      read_back_(results_.size() * SizeOf(DType::kF64), stream),
      stalls_(mesh.world().size() > 1),
      reducer_(store, mesh, stalls_) {
  double lowest[] = {-std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  CopyFromHost(TensorView{lowest, DType::kF64, {}, {2}}, lowest_, stream);
  if (store.replicas() > 1) {
    static_cast<void>(mesh.replica_group(store.replicas()));  // all ranks make it here, together
  }
}

void Optimizer::BeginUpdate(const Stream& stream) {
  store_.BeginUpdate();
  reducer_.Begin();
  Zero(stats_, stream);
  Copy(lowest_, extremes_.Rows(own_extremes_, 2), stream);
}

UpdateResult Optimizer::Step(double lr, int64_t update, const Stream& stream, double most_norm) {
  reducer_.Finish(stream);
  SumNorm(stream);
  ClipScale({.stats = stats_.Rows(0, 2), .scale = scale_, .clip = config_.clip_grad_norm, .most_norm = most_norm},
            stream);
  if (before_change_) {
    before_change_();
  }
  ApplyAdamW(lr, update, stream);

  UpdateResult result;
  ReadBack(result, stream);
  result.applied = std::isfinite(result.loss_sum) && std::isfinite(result.grad_norm) && result.grad_norm <= most_norm;
  result.comm_ms = stalls_.Take();
  return result;
}

void Optimizer::ReadBack(UpdateResult& result, const Stream& stream) {
  const auto* host = static_cast<const double*>(read_back_.data());
  CopyToHost(results_, {read_back_.data(), DType::kF64, {}, {results_.size()}}, stream);
  result.loss_sum = host[kLoss];
  result.grad_norm = std::sqrt(host[kSquares]);
  result.attention_sum = host[kAttention];
  result.lm_sum = host[kTerms];
  result.kl_sum = host[kTerms + 1];
  result.z_sum = host[kTerms + 2];
  result.largest_logit = host[kStats];
  result.largest_attention = host[kStats + 1];
  for (int64_t i = 2; i < extremes_.size(); i += 2) {
    result.largest_logit = std::max(result.largest_logit, host[kStats + i]);
    result.largest_attention = std::max(result.largest_attention, host[kStats + i + 1]);
  }
}

// Every rank sums the elements it owns, so that each counts once and the sum of the ranks' parts is the same whether
// the gradients were scattered or not. The loss sum is whole on every tensor rank.
void Optimizer::SumNorm(const Stream& stream) {
  const TensorView squares = stats_.Rows(kSquares, 1);
  for (const FlatRange& owned : store_.owned()) {
    const FlatRange range = Intersect(owned, {0, store_.trained_end()});
    if (range.size() > 0) {
      SumOfSquares(RowsOf(store_.grads(), range), squares, stream, &allocator_);
    }
  }
  Communicator& tensor = mesh_.group(MeshAxis::kTensor);
  const int64_t of_state_rank = 2 * tensor.size();
  stalls_.Measure(stream, Ordering::kInOrder, [&] {
    tensor.AllReduceSum("gradient norm over tensor ranks", stats_.Rows(kSquares, 2), stream);
    mesh_.state_group().AllReduceSum("loss and gradient norm", stats_, stream);
    tensor.AllGather("largest values over tensor ranks",
                     extremes_.Rows(own_extremes_ / of_state_rank * of_state_rank, of_state_rank),
                     stream);
    mesh_.state_group().AllGather("largest values", extremes_, stream);
  });
}

// Under ZeRO-1 the new weights of a bucket travel while the next one's are computed.
void Optimizer::ApplyAdamW(double lr, int64_t update, const Stream& stream) {
  if (!store_.is_sharded()) {
    UpdateShard({0, store_.trained_end()}, lr, update, stream);
    return;
  }
  Communicator& group = mesh_.state_group();
  for (const Bucket& bucket : store_.buckets()) {
    if (!bucket.trained) {
      continue;
    }
    UpdateShard(bucket.part, lr, update, stream);
    stalls_.Measure(stream, Ordering::kUntilWait, [&] {
      group.AllGather("gather weights", RowsOf(store_.weights(), bucket.range), stream, Ordering::kUntilWait);
    });
  }
  stalls_.Measure(stream, Ordering::kInOrder, [&] { group.Wait(stream); });
}

void Optimizer::UpdateShard(const FlatRange& shard, double lr, int64_t update, const Stream& stream) {
  UpdateRange(Intersect(shard, {0, store_.decay_end()}), config_.weight_decay, lr, update, stream);
  UpdateRange(Intersect(shard, {store_.decay_end(), store_.trained_end()}), 0.0, lr, update, stream);
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
