// Descriptions of tensors for the copy engine (kernels/device/tma.cuh), made on the host and passed to a kernel by
// value as a `const __grid_constant__` parameter.
#pragma once

#include <cuda.h>

#include "kernels/core/tensor.h"

namespace ksa::cuda {

// Of a bf16 tensor [rows, heads, e] with e a multiple of 64: a copy brings `box_rows` (at most 256) rows of 64 columns
// of one head, with 128-byte swizzle. Rows outside of the tensor are read as zeros. Not for dry streams: the address
// must exist. Throws DeviceError where the driver refuses.
[[nodiscard]] CUtensorMap MakeTensorMap(const TensorView& tensor, int box_rows);

}  // namespace ksa::cuda
