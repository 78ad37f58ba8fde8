// Matrix products. Weights are stored [out, in] as in y = x W^T.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/device.h"
#include "kernels/core/tensor.h"

namespace ksa {

// c [m, n] = alpha · op(a) · op(b) + beta · c, with op(a) [m, k], op(b) [k, n].
// a and b have one dtype; c has the same, or the accumulation type (fp32 for bf16: weight gradients). Sums are kept in
// the accumulation type. With beta == 0 the old contents of c are not read. The order of additions depends only on the
// shapes and on stream.threads; on a GPU on the shapes, the alignment of the operands (below 16 bytes) and the device.
struct GemmArgs {
  TensorView a;  // [m, k], or [k, m] with transpose_a
  TensorView b;  // [k, n], or [n, k] with transpose_b
  TensorView c;  // [m, n] out
  bool transpose_a = false;
  bool transpose_b = false;
  double alpha = 1.0;
  double beta = 0.0;
};

void Gemm(const GemmArgs& args, const Stream& stream);

// Products of which none reads what another writes: the same bits as one after the other. A GPU takes those of a few
// rows together, so that it has enough to read at a time.
void Gemms(std::span<const GemmArgs> products, const Stream& stream);

// m, n, k of a product, taken from its checked arguments.
struct GemmSize {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

}  // namespace ksa
