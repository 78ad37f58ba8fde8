// Whether numbers are finite.
#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace ksa {

// The first value that is infinite or not a number; -1: all are finite. `values` are fp32 or fp64, in host memory.
[[nodiscard]] int64_t FirstNotFinite(const TensorView& values);

}  // namespace ksa
