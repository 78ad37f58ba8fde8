// For tests whose ranks have a GPU each and talk through NCCL.
#pragma once

#include <string>

#include <fmt/core.h>

#include "kernels/core/gpu.h"
#include "parallel/comm/nccl.h"

namespace ksa::testing {

// Why `ranks` of them cannot run here; empty where they can.
[[nodiscard]] inline std::string WhyNotOnGpus(int ranks) {
  if (!NcclIsBuilt()) {
    return "no NCCL in this build";
  }
  return GpuCount() < ranks ? fmt::format("needs {} GPUs, there are {}", ranks, GpuCount()) : "";
}

}  // namespace ksa::testing
