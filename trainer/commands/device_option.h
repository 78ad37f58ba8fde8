// --device and --threads, the same for every command that computes.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "kernels/core/dtype.h"
#include "trainer/step/runtime.h"

namespace ksa {

struct DeviceOption {
  std::string device = "auto";  // auto, cpu, cuda
  int threads = 0;              // 0: all cores this process may use

  // For computing in `precision`: auto takes a GPU where there is one. Error(kConfig) when cuda cannot do it.
  [[nodiscard]] RuntimeOptions Options(DType precision) const;
};

void AddDeviceOption(CLI::App& command, DeviceOption& option);

}  // namespace ksa
