// What training.micro_batch_size: auto means for the ranks that are here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "parallel/comm/communicator.h"
#include "trainer/config/config.h"

namespace ksa {

// Memory that this rank may plan with, in bytes: of GPU `ordinal`, or on the CPU its part of what is free, `local_size`
// ranks being on this host.
[[nodiscard]] int64_t FreeBytes(DeviceChoice device, int ordinal, int local_size);

// The largest divisor of a data rank's `share` of the global batch that `fits`; 1 where none does, without asking.
[[nodiscard]] int32_t LargestMicroBatch(int32_t share, const std::function<bool(int32_t size)>& fits);

// Fills in training.micro_batch_size where it is open: with what the run folder's configuration says, when it is of the
// same device, mesh and recomputation; else with the largest divisor of a data rank's share of the global batch whose
// plan (PlanMemory) fits into `free_bytes` on every rank, and with 1 where none does. Every rank calls it and gets the
// same. `config` is resolved for this world (ResolveDevice, CheckAgainstRanks). Returns what to say of it; nothing
// where nothing was open.
[[nodiscard]] std::string ResolveMicroBatch(Config& config, Communicator& world, int64_t free_bytes);

}  // namespace ksa
