#include "trainer/observe/device_peaks.h"

#include <array>
#include <utility>

namespace ksa {

std::optional<double> PeakFlops(std::string_view device, DType compute) {
  static constexpr std::array<std::pair<std::string_view, double>, 13> kTeraFlops{{{"NVIDIA A100-SXM4-40GB", 312},
                                                                                   {"NVIDIA A100-SXM4-80GB", 312},
                                                                                   {"NVIDIA A100-PCIE-40GB", 312},
                                                                                   {"NVIDIA A100 80GB PCIe", 312},
                                                                                   {"NVIDIA H100 80GB HBM3", 989},
                                                                                   {"NVIDIA H100 PCIe", 756},
                                                                                   {"NVIDIA H100 NVL", 835},
                                                                                   {"NVIDIA H200", 989},
                                                                                   {"NVIDIA H200 NVL", 835},
                                                                                   {"NVIDIA B200", 2250},
                                                                                   {"NVIDIA L40S", 362},
                                                                                   {"NVIDIA GeForce RTX 4090", 165.2},
                                                                                   {"NVIDIA GeForce RTX 4090 D", 147}}};
  if (compute != DType::kBF16) {
    return std::nullopt;
  }
  for (const auto& [name, tera] : kTeraFlops) {
    if (name == device) {
      return tera * 1e12;
    }
  }
  return std::nullopt;
}

}  // namespace ksa
