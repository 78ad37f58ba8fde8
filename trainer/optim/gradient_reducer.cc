#include "trainer/optim/gradient_reducer.h"

#include <algorithm>

namespace ksa {

GradientReducer::GradientReducer(ParameterStore& store, const ProcessMesh& mesh, StallTimer& stalls)
    : store_(store), mesh_(mesh), stalls_(stalls) {
  for (const Bucket& bucket : store.buckets()) {
    if (!bucket.trained) {
      continue;
    }
    Pending pending = {.bucket = &bucket};
    for (Parameter& parameter : store.parameters()) {
      if (bucket.range.begin <= parameter.offset && parameter.offset < bucket.range.end) {
        pending.parameters.push_back(&parameter);
        pending.first_layer = std::min(pending.first_layer, parameter.spec.first_layer);
      }
    }
    // Made by all ranks together, now and not while sums of other groups travel.
    if (bucket.reduction == TensorReduction::kReplicas) {
      static_cast<void>(mesh_.replica_group(store.replicas()));
    }
    buckets_.push_back(std::move(pending));
  }
}

void GradientReducer::Begin() {
  for (Pending& pending : buckets_) {
    pending.started = false;
  }
}

void GradientReducer::OnGradients(int32_t layer, const Stream& stream) {
  for (Pending& pending : buckets_) {
    if (pending.first_layer >= layer && pending.bucket->reduction == TensorReduction::kNone) {
      Start(pending, stream);
    }
  }
}

void GradientReducer::Finish(const Stream& stream) {
  // Those that tensor ranks sum first go last: the others travel meanwhile.
  for (const bool over_tensor_ranks : {false, true}) {
    for (Pending& pending : buckets_) {
      if ((pending.bucket->reduction != TensorReduction::kNone) == over_tensor_ranks) {
        Start(pending, stream);
      }
    }
  }
  stalls_.Measure(stream, Ordering::kInOrder, [&] { mesh_.state_group().Wait(stream); });
}

void GradientReducer::Start(Pending& pending, const Stream& stream) {
  if (pending.started) {
    return;
  }
  pending.started = true;
  for (Parameter* parameter : pending.parameters) {
    ParameterStore::FinishGradient(*parameter, stream);
    parameter->grad_final = true;
  }
  SumOverTensorRanks(pending, stream);
  const FlatRange& range = pending.bucket->range;
  const TensorView grads = store_.grads().Rows(range.begin, range.size());
  stalls_.Measure(stream, Ordering::kUntilWait, [&] {
    if (store_.is_sharded()) {
      mesh_.state_group().ReduceScatterSum("sum gradients", grads, stream, Ordering::kUntilWait);
    } else {
      mesh_.state_group().AllReduceSum("sum gradients", grads, stream, Ordering::kUntilWait);
    }
  });
}

void GradientReducer::SumOverTensorRanks(const Pending& pending, const Stream& stream) {
  const FlatRange& range = pending.bucket->range;
  const TensorView grads = store_.grads().Rows(range.begin, range.size());
  const auto sum = [&](Communicator& group, const char* op) {
    stalls_.Measure(stream, Ordering::kInOrder, [&] { group.AllReduceSum(op, grads, stream); });
  };
  switch (pending.bucket->reduction) {
    case TensorReduction::kNone:
      return;
    case TensorReduction::kReplicas:
      sum(mesh_.replica_group(store_.replicas()), "sum gradients over key/value replicas");
      return;
    case TensorReduction::kAll:
      sum(mesh_.group(MeshAxis::kTensor), "sum gradients over tensor ranks");
      return;
  }
}

}  // namespace ksa
