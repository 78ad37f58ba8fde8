#include "kernels/core/checks.h"

#include "kernels/core/error.h"

namespace ksa {
namespace {

std::string_view NameOf(const Device& device) {
  return device.IsCpu() ? "the CPU" : "a CUDA device";
}

}  // namespace

ArgumentCheck::ArgumentCheck(std::string_view kernel, const Stream& stream) : kernel_(kernel), device_(stream.device) {
  if (stream.threads < 1) {
    Fail(ExitCode::kInternal, "{}: the stream has {} threads; it needs at least 1", kernel, stream.threads);
  }
}

void ArgumentCheck::TypeAndPlace(std::string_view name, const TensorView& x, DType dtype) const {
  if (x.empty() && x.size() != 0) {
    Fail(ExitCode::kInternal, "{}: argument {} is missing", kernel_, name);
  }
  if (x.dtype != dtype) {
    Fail(ExitCode::kInternal,
         "{}: argument {} should be {}, it is {}",
         kernel_,
         name,
         ksa::NameOf(dtype),
         ksa::NameOf(x.dtype));
  }
  if (x.device != device_) {
    Fail(ExitCode::kInternal,
         "{}: argument {} lies on {} {}, the stream runs on {} {}",
         kernel_,
         name,
         NameOf(x.device),
         x.device.ordinal,
         NameOf(device_),
         device_.ordinal);
  }
}

void ArgumentCheck::Tensor(std::string_view name, const TensorView& x, DType dtype, const Shape& shape) const {
  TypeAndPlace(name, x, dtype);
  if (x.shape != shape) {
    Fail(ExitCode::kInternal,
         "{}: argument {} should have shape {}, it has {}",
         kernel_,
         name,
         shape.ToString(),
         x.shape.ToString());
  }
}

void ArgumentCheck::Elements(std::string_view name, const TensorView& x, DType dtype, int64_t size) const {
  TypeAndPlace(name, x, dtype);
  if (x.size() != size) {
    Fail(ExitCode::kInternal,
         "{}: argument {} should have {} elements, it has shape {}",
         kernel_,
         name,
         size,
         x.shape.ToString());
  }
}

void ArgumentCheck::Optional(std::string_view name, const TensorView& x, DType dtype, const Shape& shape) const {
  if (!x.empty()) {
    Tensor(name, x, dtype, shape);
  }
}

void ArgumentCheck::Floating(std::string_view name, const TensorView& x) const {
  if (x.dtype == DType::kI32) {
    Fail(ExitCode::kInternal, "{}: argument {} should be fp64, fp32 or bf16, it is int32", kernel_, name);
  }
  if (x.dtype == DType::kF64 && !device_.IsCpu()) {
    Fail(ExitCode::kInternal,
         "{}: argument {}: a GPU takes fp32 and bf16, not fp64; fp64 runs on the CPU",
         kernel_,
         name);
  }
}

void ArgumentCheck::Rank(std::string_view name, const TensorView& x, int rank) const {
  if (x.shape.rank() != rank) {
    Fail(ExitCode::kInternal,
         "{}: argument {} should have {} dimensions, it has shape {}",
         kernel_,
         name,
         rank,
         x.shape.ToString());
  }
}

void ArgumentCheck::Within(std::string_view name, int64_t value, int64_t first, int64_t last) const {
  if (value < first || value > last) {
    Fail(ExitCode::kInternal, "{}: {} is {}, it should lie in [{}, {}]", kernel_, name, value, first, last);
  }
}

Allocator& RequireScratch(std::string_view kernel, Allocator* allocator) {
  if (allocator == nullptr) {
    Fail(ExitCode::kInternal, "{}: on a GPU it needs an allocator for scratch, none was given", kernel);
  }
  return *allocator;
}

void FailDevice(std::string_view kernel, const Device& device) {
  Fail(ExitCode::kInternal,
       "{} was asked to run on {} {}, but this build has no such kernel; run on the CPU or build with CUDA",
       kernel,
       NameOf(device),
       device.ordinal);
}

}  // namespace ksa
