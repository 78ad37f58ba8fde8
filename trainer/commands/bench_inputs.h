// Inputs of the benchmarks.
#pragma once

#include <string>

#include "kernels/core/tensor.h"
#include "trainer/step/runtime.h"

namespace ksa {

// Standard normal numbers where the runtime computes; another `name`, other numbers. Large tensors repeat a pool of a
// million.
[[nodiscard]] Tensor RandomNormal(const std::string& name, const Shape& shape, DType dtype, Runtime& runtime);

}  // namespace ksa
