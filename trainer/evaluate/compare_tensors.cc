#include "trainer/evaluate/compare_tensors.h"

#include <limits>

#include "kernels/core/host_allocator.h"

namespace ksa {
namespace {

constexpr double kAll = std::numeric_limits<double>::infinity();

double ElementOf(const Tensor& tensor, int64_t i) {
  return tensor.dtype() == DType::kF64 ? tensor.As<double>()[i] : static_cast<double>(tensor.As<float>()[i]);
}

}  // namespace

TensorDifference CompareTensor(TensorSource& a, const TensorInfo& tensor, TensorSource& b) {
  const TensorInfo* other = b.Find(tensor.name);
  if (other == nullptr || other->shape != tensor.shape || other->dtype != tensor.dtype) {
    return {tensor.name, tensor.size(), kAll};
  }
  TensorDifference result{tensor.name, 0, 0};
  double squares = 0;
  double difference = 0;
  ForEachBlock(tensor, [&](const FlatRange& range) {
    HostAllocator allocator;
    const Tensor x = Tensor::Empty({range.size()}, tensor.dtype, allocator);
    const Tensor y = Tensor::Empty({range.size()}, tensor.dtype, allocator);
    a.Read(tensor, RangeOf(tensor, range), x);
    b.Read(*other, RangeOf(*other, range), y);
    for (int64_t i = 0; i < range.size(); ++i) {
      const double p = ElementOf(x, i);
      const double q = ElementOf(y, i);
      result.different_elements += SameBits(p, q) ? 0 : 1;
      squares += p * p;
      difference += (p - q) * (p - q);
    }
  });
  if (result.different_elements > 0) {
    const double relative = std::sqrt(difference / squares);
    result.relative_l2 = std::isnan(relative) ? kAll : relative;
  }
  return result;
}

std::vector<TensorDifference> CompareSources(TensorSource& a, TensorSource& b) {
  std::vector<TensorDifference> differences;
  for (const TensorInfo& tensor : a.tensors()) {
    const TensorDifference difference = CompareTensor(a, tensor, b);
    if (difference.different_elements > 0) {
      differences.push_back(difference);
    }
  }
  for (const TensorInfo& tensor : b.tensors()) {
    if (a.Find(tensor.name) == nullptr) {
      differences.push_back({tensor.name, tensor.size(), kAll});
    }
  }
  return differences;
}

}  // namespace ksa
