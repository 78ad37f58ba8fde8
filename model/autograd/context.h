// ExecContext: everything an operation needs to run. There are no globals, so several ranks can live in one process.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/error.h"
#include "kernels/core/tensor.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {

class Tape;

// Tensors that a recomputed block does not compute again: attention's output and log-sum-exp. The first pass appends
// them in program order, the second one takes them in the same order.
struct KeptTensors {
  std::vector<Tensor> tensors;
  size_t next = 0;
  bool replay = false;

  // The next one, in the second pass.
  [[nodiscard]] Tensor Take() {
    KSA_CHECK(next < tensors.size(), "a recomputed block ran more attention than its first pass");
    return std::move(tensors[next++]);
  }
};

struct ExecContext {
  Tape* tape = nullptr;  // null: no gradients wanted; saved tensors die at once
  Stream stream;
  Allocator* allocator = nullptr;
  const ProcessMesh* mesh = nullptr;
  KeptTensors* kept = nullptr;  // set inside a recomputed block
  // [1] fp64, raised to the largest log-sum-exp of all rows of attention that run (never again in backward); or empty.
  TensorView largest_attention{};

  [[nodiscard]] Tensor Empty(const Shape& shape, DType dtype) const { return Tensor::Empty(shape, dtype, *allocator); }
};

}  // namespace ksa
