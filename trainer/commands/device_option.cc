#include "trainer/commands/device_option.h"

#include <fmt/core.h>

#include "kernels/core/gpu.h"
#include "kernels/core/threads.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"
#include "trainer/config/load.h"

namespace ksa {

RuntimeOptions DeviceOption::Options(DType precision) const {
  Config config;
  config.run.device = device == "cuda"  ? DeviceChoice::kCuda
                      : device == "cpu" ? DeviceChoice::kCpu
                                        : DeviceChoice::kAuto;
  config.training.precision = precision;
  ResolveDevice(config, GpuCount() > 0);
  const bool cuda = config.run.device == DeviceChoice::kCuda;
  if (cuda && precision == DType::kF64) {
    Fail(ExitCode::kConfig, "fp64 runs on the CPU only; use --device cpu");
  }
  return {.device = cuda ? DeviceKind::kCuda : DeviceKind::kCpu, .threads = threads};
}

void AddDeviceOption(CLI::App& command, DeviceOption& option) {
  command.add_option("--device", option.device, "auto: a GPU where there is one")
      ->check(Words({"auto", "cpu", "cuda"}))
      ->capture_default_str()
      ->group("Machine");
  command.add_option("--threads", option.threads, "cores to use")
      ->check(WholeNumber(1, kMaxThreads))
      ->default_str(option.threads > 0 ? fmt::format("{}", option.threads) : "all")
      ->group("Machine");
}

}  // namespace ksa
