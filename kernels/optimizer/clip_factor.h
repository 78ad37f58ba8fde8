// The formula of ClipScale, for host and device.
#pragma once

#include <cmath>

#include "kernels/core/host_device.h"

namespace ksa {

[[nodiscard]] KSA_HOST_DEVICE inline double ClipFactor(double loss, double squares, double clip, double most_norm) {
  const double norm = sqrt(squares);
  if (!(fabs(loss) <= 1.7976931348623157e308 && norm <= 1.7976931348623157e308) || norm > most_norm) {  // NaN as well
    return nan("");
  }
  const double scale = clip / (norm + 1e-6);
  return clip > 0.0 && scale < 1.0 ? scale : 1.0;
}

}  // namespace ksa
