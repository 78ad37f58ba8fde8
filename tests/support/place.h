// Where a test computes: a stream and memory there. The same test code runs on the CPU and on a GPU.
#pragma once

#include <vector>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/gpu.h"
#include "kernels/core/tensor.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

struct Place {
  Stream stream;
  Allocator* memory = nullptr;
};

// A host tensor's values in memory of the place.
[[nodiscard]] inline Tensor ToPlace(const TensorView& x, const Place& place) {
  Tensor copy = Tensor::Empty(x.shape, x.dtype, *place.memory);
  CopyFromHost(x, copy, place.stream);
  return copy;
}

// Integers in memory of the place.
[[nodiscard]] inline Tensor IntegersAt(const std::vector<int32_t>& values, const Place& place) {
  const TensorView on_host = {
      const_cast<int32_t*>(values.data()), DType::kI32, {}, {static_cast<int64_t>(values.size())}};
  Tensor copy = ToPlace(on_host, place);
  Synchronize(place.stream);  // the values may go now
  return copy;
}

// The values of a tensor, wherever it lies, once everything queued before has run.
[[nodiscard]] inline std::vector<double> ValuesOf(const TensorView& x, const Stream& stream) {
  return ToDouble(HostCopy(x, stream).view());
}

}  // namespace ksa::testing
