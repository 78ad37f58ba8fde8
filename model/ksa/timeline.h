// How long an update takes a rank: the log of what it did, over the figures of a device.
//
// Work of a rank runs one operation after the other. A collective begins when the host asks for it, beside that work,
// behind the group's calls before it, and not before a call that was asked for earlier has begun (as NCCL's launch
// order has it); the rank stands still where it waits for one that has not ended. Assumed:
//   - sequences are whole documents; all ranks are as fast as each other and start an update together;
//   - every matrix product runs at one rate and every row-wise kernel at another, attention at one that depends on the
//     keys of a query; what is limited by memory runs as fast as memory;
//   - groups do not slow each other down, and hosts are connected without contention;
//   - a collective that runs beside computation takes DeviceFigures::sharing_share of it;
//   - launches and the host take no time.
#pragma once

#include <array>
#include <cstdint>

#include "model/ksa/device_figures.h"
#include "model/ksa/work_log.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {

// Where the groups of a rank lie: ranks of a host are neighbours in the world.
class RankTopology {
 public:
  // `replicas`: tensor ranks that share a key/value head.
  RankTopology(const MeshShape& mesh, int host_gpus, int rank, int replicas);

  // Whether rank `peer` of the context or tensor group is on another host.
  [[nodiscard]] bool IsRemote(TrafficGroup group, int peer) const;

  [[nodiscard]] const GroupShape& ShapeOf(TrafficGroup group) const { return shapes_[static_cast<size_t>(group)]; }

 private:
  [[nodiscard]] int64_t HostOf(int64_t data, int64_t context, int64_t tensor) const;
  [[nodiscard]] GroupShape Shape(TrafficGroup group, int replicas) const;

  MeshShape mesh_;
  int64_t host_gpus_;
  int64_t data_;
  int64_t context_;
  int64_t tensor_;
  std::array<GroupShape, kTrafficGroups> shapes_;
};

// Seconds in one group's collectives: those that the rank stood still for, and the others.
struct GroupSeconds {
  double exposed = 0.0;
  double hidden = 0.0;
};

// Seconds of an update.
struct StepSeconds {
  double products = 0.0;  // what runs again included
  double attention = 0.0;
  double rows = 0.0;
  double optimizer = 0.0;  // AdamW and the gradient norm
  double sharing = 0.0;    // what collectives take from computation beside them
  std::array<GroupSeconds, kTrafficGroups> groups{};

  [[nodiscard]] const GroupSeconds& Of(TrafficGroup group) const { return groups[static_cast<size_t>(group)]; }

  [[nodiscard]] double Exposed() const;
  [[nodiscard]] double Total() const;
};

// Of one operation.
[[nodiscard]] double SecondsOf(const OpWork& work, const DeviceFigures& figures);

// Of an update of `micro_batches` micro-batches, of which `log` holds all, or three.
[[nodiscard]] StepSeconds TimeStep(const WorkLog& log,
                                   int64_t micro_batches,
                                   const RankTopology& topology,
                                   const DeviceFigures& figures);

}  // namespace ksa
