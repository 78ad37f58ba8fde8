// The end of an update: sums of gradients over ranks, AdamW, weights gathered.
#include <algorithm>
#include <vector>

#include "model/ksa/step_walk.h"

namespace ksa {
namespace {

int32_t FirstLayer(const FlatPlan& plan, const Bucket& bucket) {
  int32_t first = INT32_MAX;
  for (const Parameter& parameter : plan.parameters) {
    if (bucket.range.begin <= parameter.offset && parameter.offset < bucket.range.end) {
      first = std::min(first, parameter.spec.first_layer);
    }
  }
  return first;
}

struct Sum {
  double ready = 0.0;  // seconds after the last micro-batch's backward began
  const Bucket* bucket = nullptr;
};

// In the order in which they start; those that tensor ranks sum first go last.
std::vector<Sum> SumsOf(const FlatPlan& plan, const std::vector<double>& backward) {
  std::vector<Sum> sums;
  for (const Bucket& bucket : plan.buckets) {
    double ready = 0.0;
    const int32_t first = bucket.reduction == TensorReduction::kNone ? FirstLayer(plan, bucket) : -1;
    for (auto layer = static_cast<size_t>(std::max(0, first)); layer < backward.size(); ++layer) {
      ready += backward[layer];
    }
    sums.push_back({ready, &bucket});
  }
  std::stable_sort(sums.begin(), sums.end(), [](const Sum& a, const Sum& b) {
    const auto key = [](const Sum& sum) {
      return std::pair(sum.bucket->reduction != TensorReduction::kNone, sum.ready);
    };
    return key(a) < key(b);
  });
  return sums;
}

}  // namespace

void StepWalk::SumGradients(const std::vector<double>& backward) {
  const int64_t ranks = problem_.mesh.data * problem_.mesh.context;
  double end = 0.0;
  for (const double seconds : backward) {
    end += seconds;
  }
  double finished = 0.0;
  double in_all = 0.0;
  for (const Sum& sum : SumsOf(plan_, backward)) {
    const int64_t bytes = sum.bucket->range.size() * accumulator_;
    if (sum.bucket->reduction != TensorReduction::kNone) {
      const bool all = sum.bucket->reduction == TensorReduction::kAll;
      const TrafficGroup group = all ? TrafficGroup::kTensor : TrafficGroup::kReplicas;
      const int64_t members = all ? problem_.mesh.tensor : replicas_;
      const int64_t sent = 2 * bytes * (members - 1) / members;
      const double seconds = Ring(group, CollectiveKind::kAllReduce, sent, sent, 1);
      Account(group, seconds, seconds, 1);
    }
    if (ranks > 1) {
      const int64_t sent = problem_.zero ? bytes / ranks * (ranks - 1) : 2 * bytes * (ranks - 1) / ranks;
      const auto kind = problem_.zero ? CollectiveKind::kReduceScatter : CollectiveKind::kAllReduce;
      const double seconds = Ring(TrafficGroup::kState, kind, sent, sent, 1);
      finished = std::max(finished, sum.ready) + seconds;
      in_all += seconds;
    }
  }
  Account(TrafficGroup::kState, in_all, std::clamp(finished - end, 0.0, in_all), 1);
}

void StepWalk::UpdateWeights() {
  const int64_t ranks = problem_.mesh.data * problem_.mesh.context;
  const auto small = [&](TrafficGroup group, int64_t members, int64_t bytes) {
    const int64_t sent = 2 * bytes * (members - 1) / members;
    const double seconds = Ring(group, CollectiveKind::kAllReduce, sent, sent, 1);
    Account(group, seconds, seconds, 1);
  };
  small(TrafficGroup::kTensor, problem_.mesh.tensor, SizeOf(DType::kF64));
  small(TrafficGroup::kState, ranks, 2 * SizeOf(DType::kF64));

  // Master weights, gradient and moments are read; all but the gradient and the copy in the compute type written.
  const bool sharded = problem_.zero && ranks > 1;
  const int64_t copy = element_ == accumulator_ ? 0 : element_;
  const double element = static_cast<double>(7 * accumulator_ + copy) / figures_.stream_bytes;
  const auto owned = static_cast<double>(plan_.padded_size / (sharded ? ranks : 1));
  const double adamw = owned * element;
  estimate_.optimizer = adamw + owned * static_cast<double>(accumulator_) / figures_.stream_bytes;
  if (!sharded) {
    return;
  }
  double computed = 0.0;
  double gathered = 0.0;
  double in_all = 0.0;
  for (const Bucket& bucket : plan_.buckets) {
    computed += static_cast<double>(bucket.part.size()) * element;
    const int64_t sent = bucket.part.size() * element_ * (ranks - 1);
    const double seconds = Ring(TrafficGroup::kState, CollectiveKind::kAllGather, sent, sent, 1);
    gathered = std::max(gathered, computed) + seconds;
    in_all += seconds;
  }
  Account(TrafficGroup::kState, in_all, gathered - computed, 1);
}

}  // namespace ksa
