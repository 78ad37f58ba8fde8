// Peak arithmetic of GPUs, for MFU.
#pragma once

#include <optional>
#include <string_view>

#include "kernels/core/dtype.h"

namespace ksa {

// Dense bf16 matrix FLOPs a second with fp32 accumulation, from the vendors' datasheets; none for a name that is not in
// the table (names are matched exactly, as the driver gives them) and for other types.
[[nodiscard]] std::optional<double> PeakFlops(std::string_view device, DType compute);

}  // namespace ksa
