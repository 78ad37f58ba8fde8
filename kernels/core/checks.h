// What every kernel checks of its arguments before it runs.
#pragma once

#include <string_view>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Checks the arguments of one kernel call; every failure is an Error(kInternal) that names kernel and argument.
class ArgumentCheck {
 public:
  // Checks the stream itself as well.
  ArgumentCheck(std::string_view kernel, const Stream& stream);

  // `x` is present and has this type and shape on the stream's device. A tensor without elements may have no memory.
  void Tensor(std::string_view name, const TensorView& x, DType dtype, const Shape& shape) const;

  // The same for a flat range: `x` has this type and number of elements in any shape.
  void Elements(std::string_view name, const TensorView& x, DType dtype, int64_t size) const;

  // As Tensor and Elements, but an argument that was left out is fine.
  void Optional(std::string_view name, const TensorView& x, DType dtype, const Shape& shape) const;

  // `x` is one of fp64, fp32, bf16.
  void Floating(std::string_view name, const TensorView& x) const;

  void Rank(std::string_view name, const TensorView& x, int rank) const;

  // first <= last, for instance of a row where a second weight starts.
  void Within(std::string_view name, int64_t value, int64_t first, int64_t last) const;

 private:
  void TypeAndPlace(std::string_view name, const TensorView& x, DType dtype) const;

  std::string_view kernel_;
  Device device_;
};

// The allocator of a call that needs scratch: an Error(kInternal) when there is none.
[[nodiscard]] Allocator& RequireScratch(std::string_view kernel, Allocator* allocator);

// A kernel was asked to run on a device it was not built for.
[[noreturn]] void FailDevice(std::string_view kernel, const Device& device);

}  // namespace ksa
