// The fast way for long rows of logits with bf16 gradients on sm_90: see softmax_stream.cu.
#pragma once

#include "kernels/core/device.h"
#include "kernels/loss/softmax_rows_cuda.h"

namespace ksa::cuda {

// Rows of a multiple of 4 elements, 8192 to 230 K of them, which two per cluster fit into shared memory.
[[nodiscard]] bool CanStreamSoftmax(const SoftmaxRowsArgs& args, const Stream& stream);
void StreamSoftmax(const SoftmaxRowsArgs& args, const Stream& stream);

}  // namespace ksa::cuda
