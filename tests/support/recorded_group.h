// Which collectives a rank asks for, in their order over all its groups; and whether the orders of all ranks fit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa::testing {

// One call with tensors. Ranks are those of the world.
struct QueuedCall {
  std::string group;
  std::vector<int> ranks;  // of the group
  std::string op;
  CollectiveKind kind = CollectiveKind::kAllReduce;
  std::vector<int> sends;     // an exchange: to whom, message by message
  std::vector<int> receives;  // from whom

  friend bool operator==(const QueuedCall&, const QueuedCall&) = default;
};

// "tensor: tensor enter"
[[nodiscard]] std::string ToString(const QueuedCall& call);

// Wraps groups, for ProcessMesh: every call is written down in `calls` before it is made. `before` is called, too.
[[nodiscard]] ProcessMesh::MakeGroup RecordInto(std::vector<QueuedCall>& calls,
                                                int world_rank,
                                                std::function<void()> before = {});

// Whether ranks that run their calls one after the other, each when all that take part in it are there, come to the
// end: then there is one order of all calls that agrees with every rank's. Empty, or what is wrong.
[[nodiscard]] std::string WhyNotOneOrder(const std::vector<std::vector<QueuedCall>>& ranks);

}  // namespace ksa::testing
