// Two tensors, number by number.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/tensor_source.h"

namespace ksa {

// One tensor of two containers. Under a relative tolerance the difference in the L2 norm decides.
struct TensorDifference {
  std::string name;
  int64_t different_elements = 0;
  double relative_l2 = 0;
};

// Equal in bits, or both not a number.
[[nodiscard]] inline bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b) || (std::isnan(a) && std::isnan(b));
}

// Compares a tensor of `a` with that of its name in `b`, a block at a time. Different dtypes or shapes, and no such
// tensor, count as all elements different.
[[nodiscard]] TensorDifference CompareTensor(TensorSource& a, const TensorInfo& tensor, TensorSource& b);

// All tensors of both; those that differ in some element.
[[nodiscard]] std::vector<TensorDifference> CompareSources(TensorSource& a, TensorSource& b);

}  // namespace ksa
