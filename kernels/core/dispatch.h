// From a runtime dtype to a template argument.
#pragma once

#include "kernels/core/dtype.h"
#include "kernels/core/error.h"

namespace ksa {

// Calls function(T{}) with T = double, float or BFloat16, so that a generic lambda can take its type from the argument.
template <typename Function>
void DispatchFloating(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kF64:
      return function(double{});
    case DType::kF32:
      return function(float{});
    case DType::kBF16:
      return function(BFloat16{});
    case DType::kI32:
      break;
  }
  Fail(ExitCode::kInternal, "expected a tensor of fp64, fp32 or bf16, got {}", NameOf(dtype));
}

// The same for the accumulation types, double and float.
template <typename Function>
void DispatchAccumulator(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kF64:
      return function(double{});
    case DType::kF32:
      return function(float{});
    case DType::kBF16:
    case DType::kI32:
      break;
  }
  Fail(ExitCode::kInternal, "expected a tensor of fp64 or fp32, got {}", NameOf(dtype));
}

// The same for what GPUs compute in, float and BFloat16; fp64 runs on the CPU alone.
template <typename Function>
void DispatchGpu(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kF32:
      return function(float{});
    case DType::kBF16:
      return function(BFloat16{});
    case DType::kF64:
    case DType::kI32:
      break;
  }
  Fail(ExitCode::kInternal, "expected a tensor of fp32 or bf16 on a GPU, got {}; fp64 runs on the CPU", NameOf(dtype));
}

}  // namespace ksa
