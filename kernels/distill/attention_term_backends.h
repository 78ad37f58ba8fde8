// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/distill/attention_term.h"

namespace ksa {

// A row's sums, of a GPU and of a dry stream: [n] fp32.
[[nodiscard]] inline Tensor TakeAttentionTermScratch(const AttentionTermArgs& args, Allocator& scratch) {
  return Tensor::Empty({args.student.rows()}, DType::kF32, scratch);
}

}  // namespace ksa

namespace ksa::cpu {

template <typename T>
void AttentionTerm(const AttentionTermArgs& args, const Stream& stream);

}  // namespace ksa::cpu

namespace ksa::cuda {

void AttentionTerm(const AttentionTermArgs& args, Allocator& scratch, const Stream& stream);

}  // namespace ksa::cuda
