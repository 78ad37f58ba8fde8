// Sums of row parts on a GPU; fp32 and bf16. Arguments are checked already.
#pragma once

#include <span>

#include "kernels/copy/row_parts.h"

namespace ksa::cuda {

// At most 48 parts.
void SumRowParts(std::span<const RowPart> parts, const TensorView& y, const Stream& stream);

}  // namespace ksa::cuda
