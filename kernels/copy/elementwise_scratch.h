// Scratch of sums over elements on a GPU, and on a dry stream.
#pragma once

#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/tensor.h"

namespace ksa {

// Elements that one block of a sum of squares adds up.
inline constexpr int64_t kSquaresChunk = 32768;

// A partial sum a block: [ceil(size / kSquaresChunk)] fp64.
[[nodiscard]] inline Tensor SumOfSquaresPartials(const TensorView& x, Allocator& scratch) {
  return Tensor::Empty({(x.size() + kSquaresChunk - 1) / kSquaresChunk}, DType::kF64, scratch);
}

}  // namespace ksa
