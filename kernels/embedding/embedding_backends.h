// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/embedding/embedding.h"

// Embedding on the CPU. T: type of the tables and of y; ids are checked too.
namespace ksa::cpu {

template <typename T>
void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);

template <typename T>
void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// Embedding on a GPU; fp32 and bf16. Ids are not checked, for the host cannot see them: a row
// with an id outside the table is NaN in forward and adds to nothing in backward.
namespace ksa::cuda {

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);
void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
