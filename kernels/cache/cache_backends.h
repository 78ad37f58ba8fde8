// Internal to the family: what its front files switch between. Arguments are checked already.
#pragma once

#include "kernels/cache/cached_attention.h"
#include "kernels/cache/move_rows.h"

namespace ksa::cpu {

template <typename T>
void CachedAttention(const CachedAttentionArgs& args, const Stream& stream);

}  // namespace ksa::cpu

namespace ksa::cuda {

void CachedAttention(const CachedAttentionArgs& args, Allocator& scratch, const Stream& stream);
void MoveRows(const MoveRowsArgs& args, int64_t rows, const Stream& stream);

}  // namespace ksa::cuda
