// Embedding on the CPU. T: type of the tables and of y; arguments are checked already, ids included.
#pragma once

#include "kernels/embedding/embedding.h"

namespace ksa::cpu {

template <typename T>
void EmbeddingForward(const EmbeddingForwardArgs& args, const Stream& stream);

template <typename T>
void EmbeddingBackward(const EmbeddingBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu
