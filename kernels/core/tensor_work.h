// Work of operations whose cost is the memory that they read and write.
#pragma once

#include <initializer_list>

#include "kernels/core/tensor.h"
#include "kernels/core/work.h"

namespace ksa {

// What goes over each of `tensors` once; one that is read and written stands there twice, an empty one is nothing.
[[nodiscard]] inline OpWork MovedBy(WorkKind kind, std::initializer_list<TensorView> tensors) {
  OpWork work{.kind = kind};
  for (const TensorView& x : tensors) {
    work.bytes += x.empty() ? 0 : x.bytes();
  }
  return work;
}

}  // namespace ksa
