#include "model/autograd/parameter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "model/autograd/initial_values.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {
namespace {

constexpr int64_t kAlignment = 64;  // elements: 256 bytes in fp32

int64_t RoundUp(int64_t x, int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

TensorView Slice(const TensorView& flat, int64_t offset, const Shape& shape) {
  return flat.Rows(offset, shape.size()).Reshape(shape);
}

// Sets what a tensor rank holds of a parameter.
void TakeShard(Parameter& parameter, const FlatSharding& sharding) {
  const ParameterSpec& spec = parameter.spec;
  parameter.shape = spec.shape;
  if (spec.tensor.kind != Placement::Kind::kSharded) {
    parameter.counted = sharding.tensor_rank == 0;
    return;
  }
  KSA_CHECK(sharding.tensor_parts % spec.replicas == 0 && spec.tensor.dim < spec.shape.rank(),
            "{}: {} replicas of shards of dimension {} over {} tensor ranks",
            spec.name,
            spec.replicas,
            spec.tensor.dim,
            sharding.tensor_parts);
  const EvenPart part(
      spec.shape[spec.tensor.dim], sharding.tensor_parts / spec.replicas, sharding.tensor_rank / spec.replicas);
  parameter.shape = spec.shape.With(spec.tensor.dim, part.size());
  parameter.shard_begin = part.begin;
  parameter.counted = sharding.tensor_rank % spec.replicas == 0;
}

TensorReduction ReductionOf(const ParameterSpec& spec, int tensor_parts) {
  if (tensor_parts == 1) {
    return TensorReduction::kNone;
  }
  if (spec.gradient_partial_over_tensor) {
    return TensorReduction::kAll;
  }
  return spec.replicas > 1 ? TensorReduction::kReplicas : TensorReduction::kNone;
}

}  // namespace

std::string_view NameOf(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::kEmbedding:
      return "embedding";
    case ParameterKind::kHead:
      return "head";
    case ParameterKind::kAttention:
      return "attention";
    case ParameterKind::kMlp:
      return "mlp";
    case ParameterKind::kNorm:
      return "norms";
    case ParameterKind::kSummaryEmbedding:
      return "summary embedding";
    case ParameterKind::kSummaryAttention:
      return "summary attention";
    case ParameterKind::kSummaryNorm:
      return "summary norms";
  }
  return "unknown";
}

HeldRuns HeldRunsOf(const Parameter& parameter) {
  const ParameterSpec& spec = parameter.spec;
  if (spec.tensor.kind != Placement::Kind::kSharded) {
    return {1, spec.shape.size(), spec.shape.size(), 0};
  }
  const int dim = spec.tensor.dim;
  const int64_t behind = spec.shape.SizeBehind(dim);
  const int64_t stride = spec.shape[dim] * behind;
  return {spec.shape.size() / stride, parameter.shape[dim] * behind, stride, parameter.shard_begin * behind};
}

FlatRange Intersect(const FlatRange& a, const FlatRange& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

// Gives every parameter its place, and cuts the flat buffers into buckets of whole parameters.
FlatPlan PlanFlat(std::vector<ParameterSpec> specs, const FlatSharding& sharding) {
  FlatPlan plan;
  for (ParameterSpec& spec : specs) {
    plan.parameters.push_back({.spec = std::move(spec)});
    TakeShard(plan.parameters.back(), sharding);
  }
  const int64_t unit = kAlignment * sharding.parts;
  int64_t offset = 0;
  int64_t begin = 0;
  const auto end_bucket = [&](TensorReduction reduction, bool trained) {
    offset = RoundUp(offset, unit);
    if (offset > begin) {
      plan.buckets.push_back({{begin, offset}, {}, reduction, trained});
    }
    begin = offset;
  };
  const auto place = [&](Parameter& parameter, TensorReduction reduction) {
    parameter.offset = offset;
    offset += RoundUp(parameter.shape.size(), kAlignment);
    if (offset - begin >= sharding.bucket_elements) {
      end_bucket(reduction, parameter.spec.trained);
    }
  };
  for (const bool decays : {true, false}) {
    for (const TensorReduction reduction :
         {TensorReduction::kNone, TensorReduction::kReplicas, TensorReduction::kAll}) {
      for (Parameter& parameter : plan.parameters) {
        if (parameter.spec.trained && parameter.spec.decays == decays &&
            ReductionOf(parameter.spec, sharding.tensor_parts) == reduction) {
          place(parameter, reduction);
        }
      }
      if (sharding.tensor_parts > 1) {
        end_bucket(reduction, true);
      }
    }
    plan.decay_end = decays ? offset : plan.decay_end;
  }
  end_bucket(TensorReduction::kNone, true);
  plan.trained_end = offset;
  for (Parameter& parameter : plan.parameters) {
    if (!parameter.spec.trained) {
      place(parameter, TensorReduction::kNone);
    }
  }
  end_bucket(TensorReduction::kNone, false);
  plan.padded_size = offset;
  for (Bucket& bucket : plan.buckets) {
    const int64_t part = bucket.range.size() / sharding.parts;
    bucket.part = {bucket.range.begin + sharding.rank * part, bucket.range.begin + (sharding.rank + 1) * part};
  }
  return plan;
}

ParameterStore::ParameterStore(std::vector<ParameterSpec> specs,
                               DType compute,
                               Allocator& allocator,
                               const FlatSharding& sharding,
                               const Stream& stream)
    : compute_(compute), allocator_(allocator), sharding_(sharding) {
  FlatPlan plan = PlanFlat(std::move(specs), sharding);
  parameters_ = std::move(plan.parameters);
  buckets_ = std::move(plan.buckets);
  decay_end_ = plan.decay_end;
  trained_end_ = plan.trained_end;
  padded_size_ = plan.padded_size;
  DivideAmongRanks();

  // Zeroed, so that the padding between parameters stays zero in weights, gradients and moments for good.
  const auto zeros = [&](int64_t size, DType dtype) {
    Tensor tensor = Tensor::Empty({size}, dtype, allocator);
    Zero(tensor, stream);
    return tensor;
  };
  weights_ = zeros(padded_size_, compute_);
  if (!sharding_.weights_alone) {
    grads_ = zeros(trained_end_, state_dtype());
    exp_avg_ = zeros(moment_size_, state_dtype());
    exp_avg_sq_ = zeros(moment_size_, state_dtype());
  }
  if (has_separate_master()) {
    master_ = zeros(state_size_, state_dtype());
  }
  for (Parameter& parameter : parameters_) {
    parameter.value = Slice(weights_, parameter.offset, parameter.shape);
    if (parameter.spec.trained && !sharding_.weights_alone) {
      parameter.grad = Slice(grads_, parameter.offset, parameter.shape);
    }
  }
}

void ParameterStore::DivideAmongRanks() {
  const bool all = !sharding_.shard_optimizer || sharding_.parts == 1;
  if (all) {
    shards_ = {{0, padded_size_}};
  } else {
    for (const Bucket& bucket : buckets_) {
      shards_.push_back(bucket.part);
    }
  }
  for (const FlatRange& shard : shards_) {
    shard_offsets_.push_back(state_size_);
    state_size_ += shard.size();
    moment_size_ += Intersect(shard, {0, trained_end_}).size();
  }
  // Parameters that another tensor rank counts are cut out; padding goes with the parameter before it.
  std::vector<const Parameter*> in_order;
  for (const Parameter& parameter : parameters_) {
    in_order.push_back(&parameter);
  }
  // One without elements here lies where the next one begins.
  std::sort(in_order.begin(), in_order.end(), [](const Parameter* a, const Parameter* b) {
    return std::pair(a->offset, a->shape.size()) < std::pair(b->offset, b->shape.size());
  });
  for (const Bucket& bucket : buckets_) {
    for (size_t i = 0; i < in_order.size(); ++i) {
      const int64_t end = i + 1 < in_order.size() ? in_order[i + 1]->offset : padded_size_;
      const FlatRange range = Intersect(bucket.part, {in_order[i]->offset, end});
      if (!in_order[i]->counted || range.size() == 0) {
        continue;
      }
      if (!owned_.empty() && owned_.back().end == range.begin) {
        owned_.back().end = range.end;
      } else {
        owned_.push_back(range);
      }
    }
  }
}

TensorView ParameterStore::State(const TensorView& buffer, const FlatRange& range) const {
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (range.begin >= shards_[i].begin && range.end <= shards_[i].end) {
      return buffer.Rows(shard_offsets_[i] + range.begin - shards_[i].begin, range.size());
    }
  }
  Fail(ExitCode::kInternal, "elements [{}, {}) are in no shard of this rank", range.begin, range.end);
}

TensorView ParameterStore::Master(const FlatRange& range) const {
  return has_separate_master() ? State(master_, range) : weights_.view().Rows(range.begin, range.size());
}

TensorView ParameterStore::master() const {
  KSA_CHECK(shards_.size() == 1, "the master weights of this rank are {} runs", shards_.size());
  return Master(shards_.front());
}

int ParameterStore::replicas() const {
  int most = 1;
  for (const Parameter& parameter : parameters_) {
    most = std::max(most, parameter.spec.replicas);
  }
  return most;
}

void ParameterStore::Initialize(uint64_t seed, const Stream& stream) {
  // Drawn in the state type, one parameter at a time; a bf16 run rounds the same numbers that an fp32 run starts from.
  HostAllocator scratch;
  for (const Parameter& parameter : parameters_) {
    const Tensor values = Tensor::Empty({parameter.shape.size()}, state_dtype(), scratch);
    if (!stream.dry) {
      FillInitial(parameter.spec, seed, HeldRunsOf(parameter), {0, values.size()}, stream.threads, values);
    }
    SetWeights(parameter, values, stream);
  }
}

void ParameterStore::SetWeights(const Parameter& parameter, const TensorView& values, const Stream& stream) {
  Tensor uploaded;
  TensorView local = values;
  if (!stream.device.IsCpu()) {
    uploaded = Tensor::Empty(values.shape, values.dtype, allocator_);
    CopyFromHost(values, uploaded, stream);
    local = uploaded;
  }
  Copy(local, parameter.value.Reshape({values.size()}), stream);
  if (!has_separate_master()) {
    return;
  }
  for (const FlatRange& shard : shards_) {
    const FlatRange range = Intersect(shard, {parameter.offset, parameter.offset + values.size()});
    if (range.size() > 0) {
      Copy(local.Rows(range.begin - parameter.offset, range.size()), Master(range), stream);
    }
  }
}

Parameter& ParameterStore::Get(std::string_view name) {
  Parameter* parameter = Find(name);
  KSA_CHECK(parameter != nullptr, "the model has no parameter {}", name);
  return *parameter;
}

Parameter* ParameterStore::Find(std::string_view name) {
  const auto found = std::find_if(
      parameters_.begin(), parameters_.end(), [&](const Parameter& parameter) { return parameter.spec.name == name; });
  return found == parameters_.end() ? nullptr : &*found;
}

int64_t ParameterStore::element_count() const {
  return std::accumulate(parameters_.begin(), parameters_.end(), int64_t{0}, [](int64_t sum, const Parameter& p) {
    return sum + p.spec.shape.size();
  });
}

int64_t ParameterStore::trained_count() const {
  return std::accumulate(parameters_.begin(), parameters_.end(), int64_t{0}, [](int64_t sum, const Parameter& p) {
    return sum + (p.spec.trained ? p.spec.shape.size() : 0);
  });
}

void ParameterStore::BeginUpdate() {
  for (Parameter& parameter : parameters_) {
    parameter.grad_written = false;
    parameter.grad_final = false;
  }
}

void ParameterStore::FinishGradients(const Stream& stream) {
  for (Parameter& parameter : parameters_) {
    FinishGradient(parameter, stream);
  }
}

void ParameterStore::FinishGradient(Parameter& parameter, const Stream& stream) {
  if (parameter.spec.trained && !parameter.grad_written) {
    Zero(parameter.grad, stream);
    parameter.grad_written = true;
  }
}

}  // namespace ksa
