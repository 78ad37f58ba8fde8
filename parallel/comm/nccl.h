// NCCL: groups whose tensors lie on GPUs, one GPU a rank. NCCL itself is named in nccl*.cc and nccl_handle.h alone.
#pragma once

#include <memory>

#include "kernels/core/device.h"
#include "parallel/comm/communicator.h"

namespace ksa {

// Whether this build has NCCL.
[[nodiscard]] bool NcclIsBuilt();

struct NcclOptions {
  double init_limit_seconds = 120.0;  // for all ranks of a group to find each other
};

// The ranks of `host` as a group that moves tensors of the GPU `device`, which no other rank of it uses. Host values go
// on through `host`, which it owns. All ranks make it together. Work runs on a stream of the group's own with high
// priority, between events on the stream of the call: kUntilWait calls run beside the work that follows them.
//
// NVLink multicast is switched off unless NCCL_NVLS_ENABLE is set: a program that ends badly while it is in use can
// leave the GPUs of a host unusable. A group of one needs no NCCL, and neither does a dry stream.
//
// Error(kConfig) in a build without NCCL; Error(kPeerLost) when a rank does not come within the limit. When an
// exception ends the group, what NCCL still runs for it is given up, so that this rank does not wait for others.
[[nodiscard]] std::unique_ptr<Communicator> MakeNcclCommunicator(std::unique_ptr<Communicator> host,
                                                                 const Device& device,
                                                                 const NcclOptions& options = {});

// Throws Error(kPeerLost) when NCCL has noticed in any group of this process that something is lost. From any thread,
// while others call NCCL: queued work never ends after such an error, and nobody else would say so.
void PollNcclErrors();

}  // namespace ksa
