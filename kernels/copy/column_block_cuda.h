// Copies of blocks of columns on a GPU. Arguments are checked already, and there is something to copy.
#pragma once

#include "kernels/copy/column_block.h"

namespace ksa::cuda {

void CopyBlock(const ColumnBlock& from, const ColumnBlock& to, const Stream& stream);

}  // namespace ksa::cuda
