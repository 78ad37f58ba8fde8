// Inputs of the benchmarks.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/core/tensor.h"
#include "trainer/step/runtime.h"

namespace ksa {

struct Batch;
struct ModelConfig;

// Standard normal numbers where the runtime computes; another `name`, other numbers. Large tensors repeat a pool of a
// million.
[[nodiscard]] Tensor RandomNormal(const std::string& name, const Shape& shape, DType dtype, Runtime& runtime);

// Samples [first, first + samples) of the benchmarks' text, which is random.
[[nodiscard]] Batch RandomBatch(const ModelConfig& model, int64_t first, int32_t samples, int32_t length);

}  // namespace ksa
