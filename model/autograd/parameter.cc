#include "model/autograd/parameter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/copy/elementwise.h"
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

template <typename T>
void FillNormal(T* out, int64_t size, uint64_t key, double std, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < size; ++i) {
    out[i] = static_cast<T>(NormalAt(key, static_cast<uint64_t>(i)) * std);
  }
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
                               const FlatSharding& sharding)
    : compute_(compute) {
  int64_t offset = 0;
  for (ParameterSpec& spec : specs) {
    Parameter parameter;
    parameter.spec = std::move(spec);
    parameter.offset = offset;
    offset += RoundUp(parameter.spec.shape.size(), kAlignment);
    parameters_.push_back(std::move(parameter));
  }
  padded_size_ = RoundUp(offset, kAlignment * sharding.parts);
  const int64_t part = padded_size_ / sharding.parts;
  write_range_ = {sharding.rank * part, (sharding.rank + 1) * part};
  shard_ = sharding.shard_optimizer ? write_range_ : FlatRange{0, padded_size_};

  // Zeroed, so that the padding between parameters stays zero in weights, gradients and moments for good.
  weights_ = Tensor::Zeros({padded_size_}, compute_, allocator);
  grads_ = Tensor::Zeros({padded_size_}, state_dtype(), allocator);
  exp_avg_ = Tensor::Zeros({shard_.size()}, state_dtype(), allocator);
  exp_avg_sq_ = Tensor::Zeros({shard_.size()}, state_dtype(), allocator);
  if (has_separate_master()) {
    master_ = Tensor::Zeros({shard_.size()}, state_dtype(), allocator);
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
    const ParameterSpec& spec = parameter.spec;
    const int64_t size = spec.shape.size();
    const Tensor values = Tensor::Empty({size}, state_dtype(), scratch);
    const uint64_t key = NamedKey(seed, spec.name);
    if (spec.init_std == 0.0) {
      if (state_dtype() == DType::kF64) {
        std::fill_n(values.As<double>(), size, 1.0);
      } else {
        std::fill_n(values.As<float>(), size, 1.0F);
      }
    } else if (state_dtype() == DType::kF64) {
      FillNormal(values.As<double>(), size, key, spec.init_std, stream.threads);
    } else {
      FillNormal(values.As<float>(), size, key, spec.init_std, stream.threads);
    }
    SetMaster(parameter, {0, size}, values, stream);
    Copy(values, parameter.value.Reshape({size}), stream);
  }
}

void ParameterStore::SetMaster(const Parameter& parameter,
                               FlatRange range,
                               const TensorView& values,
                               const Stream& stream) {
  const int64_t begin = std::max(parameter.offset + range.begin, shard_.begin);
  const int64_t end = std::min(parameter.offset + range.end, shard_.end);
  if (begin < end) {
    Copy(values.Rows(begin - parameter.offset - range.begin, end - begin),
         master().Rows(begin - shard_.begin, end - begin),
         stream);
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

void ParameterStore::CastMasterToWeights(const Stream& stream) {
  if (has_separate_master()) {
    Copy(master_, weights_.view().Rows(shard_.begin, shard_.size()), stream);
  }
}

}  // namespace ksa
