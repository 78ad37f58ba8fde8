// The rows that a context rank has of whole sequences.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/core/tensor.h"
#include "parallel/context/slices.h"

namespace ksa::testing {

[[nodiscard]] inline Tensor TakeRows(const Tensor& whole, const std::vector<RowSegment>& segments, Allocator& memory) {
  const int64_t rows = segments.back().local + segments.back().rows;
  Tensor local = Tensor::Empty({rows, whole.cols()}, whole.dtype(), memory);
  for (const RowSegment& s : segments) {
    const TensorView from = whole.view().Rows(s.whole, s.rows);
    std::memcpy(local.view().Rows(s.local, s.rows).data, from.data, static_cast<size_t>(from.bytes()));
  }
  return local;
}

}  // namespace ksa::testing
