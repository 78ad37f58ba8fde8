// Internal to the family: what its front file switches between. Arguments are checked already.
#pragma once

#include "kernels/pool/chunk_pool.h"

// Pooling on the CPU. T: type of rows and entries.
namespace ksa::cpu {

template <typename T>
void ChunkPoolForward(const ChunkPoolForwardArgs& args, const Stream& stream);

template <typename T>
void ChunkPoolBackward(const ChunkPoolBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cpu

// The same on a GPU; fp32 and bf16.
namespace ksa::cuda {

void ChunkPoolForward(const ChunkPoolForwardArgs& args, const Stream& stream);
void ChunkPoolBackward(const ChunkPoolBackwardArgs& args, const Stream& stream);

}  // namespace ksa::cuda
