// The collectives of an update one by one: their bytes, and how long they last in the groups of a mesh. Internal to
// step_estimate.cc.
#pragma once

#include "model/ksa/step_estimate.h"
#include "parallel/context/keys_plan.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// Bytes of one call of a rank, and those of them that cross hosts.
struct Volume {
  int64_t sent = 0;
  int64_t received = 0;
  int64_t remote_sent = 0;
  int64_t remote_received = 0;

  [[nodiscard]] Volume Reversed() const { return {received, sent, remote_received, remote_sent}; }
};

// Where the groups of a rank lie.
class Topology {
 public:
  Topology(const MeshShape& mesh, const DeviceFigures& figures, int context, int tensor)
      : mesh_(mesh), figures_(figures), context_(context), tensor_(tensor) {}

  [[nodiscard]] bool IsRemote(TrafficGroup group, int peer) const;
  [[nodiscard]] GroupShape ShapeOf(TrafficGroup group, int replicas) const;

 private:
  [[nodiscard]] int64_t HostOf(int64_t data, int64_t context, int64_t tensor) const;

  MeshShape mesh_;
  DeviceFigures figures_;
  int context_;
  int tensor_;
};

// k and v of a KeysPlan, forward: rows of `row_bytes`.
[[nodiscard]] Volume KeysVolume(const KeysPlan& plan,
                                const SummaryLayout& whole,
                                int64_t row_bytes,
                                const Topology& topology);

// One matrix of text rows whose `columns` are gathered by heads.
[[nodiscard]] Volume HeadsVolume(const SummaryLayout& whole,
                                 const MeshShape& mesh,
                                 int context,
                                 int64_t columns,
                                 int64_t element_bytes,
                                 const Topology& topology);

// Rows of a matrix, gathered by tensor ranks; reduced and scattered it is the same reversed.
[[nodiscard]] Volume GatherVolume(
    const RowCounts& rows, const MeshShape& mesh, int tensor, int64_t row_bytes, const Topology& topology);

}  // namespace ksa
