// Embedding on a GPU; fp32 and bf16. Arguments are checked already, but not the ids, which the host cannot see: a row
// with an id outside the table is NaN in forward and adds to nothing in backward.
#pragma once

#include "kernels/embedding/embedding.h"

namespace ksa::cuda {

void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);
void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
