#include "model/autograd/parameter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
#include "kernels/core/philox.h"

namespace ksa {
namespace {

constexpr int64_t kAlignment = 64;  // elements: 256 bytes in fp32

int64_t RoundUp(int64_t x, int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

TensorView Slice(const TensorView& flat, int64_t offset, const Shape& shape) {
  return flat.Rows(offset, shape.size()).Reshape(shape);
}

// The initial values of a parameter, a pure function of (seed, name, element).
void FillInitial(const ParameterSpec& spec, uint64_t seed, int threads, const TensorView& values) {
  const uint64_t key = NamedKey(seed, spec.name);
  const double std = spec.init_std;
  DispatchAccumulator(values.dtype, [&](auto element) {
    using T = decltype(element);
    T* out = values.As<T>();
    if (std == 0.0) {
      std::fill_n(out, values.size(), T{1});
      return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < values.size(); ++i) {
      out[i] = static_cast<T>(NormalAt(key, static_cast<uint64_t>(i)) * std);
    }
  });
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

ParameterStore::ParameterStore(std::vector<ParameterSpec> specs,
                               DType compute,
                               Allocator& allocator,
                               const FlatSharding& sharding,
                               const Stream& stream)
    : compute_(compute), allocator_(allocator) {
  for (ParameterSpec& spec : specs) {
    parameters_.push_back({.spec = std::move(spec)});
  }
  int64_t offset = 0;
  for (const bool decays : {true, false}) {
    for (Parameter& parameter : parameters_) {
      if (parameter.spec.decays == decays) {
        parameter.offset = offset;
        offset += RoundUp(parameter.spec.shape.size(), kAlignment);
      }
    }
    decay_end_ = decays ? offset : decay_end_;
  }
  padded_size_ = RoundUp(offset, kAlignment * sharding.parts);
  const int64_t part = padded_size_ / sharding.parts;
  write_range_ = {sharding.rank * part, (sharding.rank + 1) * part};
  shard_ = sharding.shard_optimizer ? write_range_ : FlatRange{0, padded_size_};

  // Zeroed, so that the padding between parameters stays zero in weights, gradients and moments for good.
  const auto zeros = [&](int64_t size, DType dtype) {
    Tensor tensor = Tensor::Empty({size}, dtype, allocator);
    Zero(tensor, stream);
    return tensor;
  };
  weights_ = zeros(padded_size_, compute_);
  grads_ = zeros(padded_size_, state_dtype());
  exp_avg_ = zeros(shard_.size(), state_dtype());
  exp_avg_sq_ = zeros(shard_.size(), state_dtype());
  if (has_separate_master()) {
    master_ = zeros(shard_.size(), state_dtype());
  }
  for (Parameter& parameter : parameters_) {
    parameter.value = Slice(weights_, parameter.offset, parameter.spec.shape);
    parameter.grad = Slice(grads_, parameter.offset, parameter.spec.shape);
  }
}

TensorView ParameterStore::master() const {
  return has_separate_master() ? master_.view() : weights_.view().Rows(shard_.begin, shard_.size());
}

void ParameterStore::Initialize(uint64_t seed, const Stream& stream) {
  // Drawn in the state type, one parameter at a time; a bf16 run rounds the same numbers that an fp32 run starts from.
  PoolAllocator scratch;
  for (const Parameter& parameter : parameters_) {
    const Tensor values = Tensor::Empty({parameter.spec.shape.size()}, state_dtype(), scratch);
    if (!stream.dry) {
      FillInitial(parameter.spec, seed, stream.threads, values);
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
  const int64_t begin = std::max(parameter.offset, shard_.begin);
  const int64_t end = std::min(parameter.offset + values.size(), shard_.end);
  if (has_separate_master() && begin < end) {
    Copy(local.Rows(begin - parameter.offset, end - begin), master_.Rows(begin - shard_.begin, end - begin), stream);
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

void ParameterStore::BeginUpdate() {
  for (Parameter& parameter : parameters_) {
    parameter.grad_written = false;
  }
}

void ParameterStore::FinishGradients(const Stream& stream) {
  for (Parameter& parameter : parameters_) {
    if (!parameter.grad_written) {
      Zero(parameter.grad, stream);
      parameter.grad_written = true;
    }
  }
}

}  // namespace ksa
