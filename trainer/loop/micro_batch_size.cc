#include "trainer/loop/micro_batch_size.h"

#include <algorithm>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/observe/log_line.h"
#include "trainer/run/run_folder.h"
#include "trainer/step/host_memory.h"

namespace ksa {
namespace {

// Of a host's free memory, what tensors may take: the rest is for the pages of the shards, scratch of kernels, and
// holes between tensors.
constexpr double kHostPart = 0.75;

// Whether what was chosen for one is right for the other: everything that memory depends on and a resume may change.
bool SameLayout(const Config& a, const Config& b) {
  return a.run.device == b.run.device && a.parallel == b.parallel && a.training.recompute == b.training.recompute &&
         a.training.precision == b.training.precision && a.training.sequence_length == b.training.sequence_length &&
         a.training.global_batch_size == b.training.global_batch_size;
}

// Rank 0: what the run took at its last start, 0 where it is not known or was for another layout.
int32_t TakenBefore(const Config& config) {
  const std::string path = RunPaths(config.run.dir).Configuration();
  if (!Exists(path)) {
    return 0;
  }
  try {
    const Config before = LoadConfig(path).config;
    return SameLayout(before, config) ? before.training.micro_batch_size.value_or(0) : 0;
  } catch (const Error&) {
    return 0;  // damaged, or of another program: the start itself says so where it matters
  }
}

// The plan of this rank with micro-batches of `size` samples.
int64_t PlannedBytes(Config config, int32_t size, const Communicator& world) {
  config.training.micro_batch_size = size;
  return PlanMemory(config, world.size(), world.rank()).Total();
}

}  // namespace

int64_t FreeBytes(DeviceChoice device, int ordinal, int local_size) {
  if (device == DeviceChoice::kCuda) {
    return QueryGpu(ordinal).free_bytes;
  }
  return static_cast<int64_t>(kHostPart * static_cast<double>(FreeHostBytes())) / std::max(1, local_size);
}

int32_t LargestMicroBatch(int32_t share, const std::function<bool(int32_t size)>& fits) {
  for (int32_t size = share; size > 1; --size) {
    if (share % size == 0 && fits(size)) {
      return size;
    }
  }
  return 1;
}

std::string ResolveMicroBatch(Config& config, Communicator& world, int64_t free_bytes) {
  if (config.training.micro_batch_size) {
    return {};
  }
  const auto share = static_cast<int32_t>(config.training.global_batch_size / *config.parallel.data);
  const int32_t before = std::stoi(OnRankZero(world, [&] { return std::to_string(TakenBefore(config)); }));
  if (before > 0 && share % before == 0) {
    config.training.micro_batch_size = before;
    return fmt::format("training.micro_batch_size: auto stays at {}, as the run began on this layout", before);
  }
  // What is smaller than the largest that fits on a rank fits there as well.
  int32_t size = share;
  const auto fits = [&](int32_t candidate) { return PlannedBytes(config, candidate, world) <= free_bytes; };
  for (const std::string& fitting : OnAllRanks(world, [&] { return std::to_string(LargestMicroBatch(share, fits)); })) {
    size = std::min(size, std::stoi(fitting));
  }
  config.training.micro_batch_size = size;
  return fmt::format("training.micro_batch_size: auto takes {} of the {} samples of a data rank; {} planned of {}",
                     size,
                     share,
                     FormatBytes(PlannedBytes(config, size, world)),
                     FormatBytes(free_bytes));
}

}  // namespace ksa
