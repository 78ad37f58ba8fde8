// NCCL: groups whose tensors lie on GPUs, one GPU a rank. NCCL itself is named in nccl*.cc and nccl_handle.h alone.
#pragma once

#include <memory>
#include <optional>

#include "kernels/core/device.h"
#include "parallel/comm/communicator.h"

namespace ksa {

// Whether this build has NCCL.
[[nodiscard]] bool NcclIsBuilt();

// How the kernels of a GPU's groups come one after the other. NCCL's kernels wait on the GPU for those of other ranks:
// where the groups of two axes run theirs in different orders on two ranks, each may wait for one that cannot begin.
enum class NcclOrder : int {
  // Groups have streams of their own, and NCCL begins a kernel when the one queued before it, of whatever group, has
  // begun as a whole: kernels run beside each other, in the order in which the host queued them
  // (NCCL_LAUNCH_ORDER_IMPLICIT; with CUDA before 12.3 one after the other).
  kByLaunch,
  // One stream for all groups of the GPU: one kernel after the other.
  kOneStream,
};

// kByLaunch from NCCL 2.26 on, unless the environment sets NCCL_LAUNCH_ORDER_IMPLICIT to 0; else kOneStream. Decided
// once a process, where it switches NCCL's order on. kOneStream in a build without NCCL.
[[nodiscard]] NcclOrder NcclOrderHere();

struct NcclOptions {
  double init_limit_seconds = 120.0;  // for all ranks of a group to find each other
  std::optional<NcclOrder> order;     // none: NcclOrderHere. The same for all groups of a GPU
};

// The ranks of `host` as a group that moves tensors of the GPU `device`, which no other rank of it uses. Host values go
// on through `host`, which it owns. All ranks make it together. Work runs on a stream beside the stream of the call,
// with high priority and between events: kUntilWait calls run beside the work that follows them. The collectives of all
// groups of a GPU run in the order of the calls, which must be one order for all ranks: no two ranks may make calls
// that both take part in the other way round.
//
// NVLink multicast is switched off unless NCCL_NVLS_ENABLE is set: a program that ends badly while it is in use can
// leave the GPUs of a host unusable. A group of one needs no NCCL, and neither does a dry stream.
//
// Error(kConfig) in a build without NCCL; Error(kPeerLost) when a rank does not come within the limit. When an
// exception ends the group, what NCCL still runs for it is given up, so that this rank does not wait for others; where
// even that does not come back, AbandonGpus is called. No end of a group takes longer than the limits of EndWithin.
[[nodiscard]] std::unique_ptr<Communicator> MakeNcclCommunicator(std::unique_ptr<Communicator> host,
                                                                 const Device& device,
                                                                 const NcclOptions& options = {});

// Throws Error(kPeerLost) when NCCL has noticed in any group of this process that something is lost. From any thread,
// while others call NCCL: queued work never ends after such an error, and nobody else would say so.
void PollNcclErrors();

}  // namespace ksa
