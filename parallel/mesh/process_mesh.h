// ProcessMesh: the ranks of a run as data × context × tensor, tensor innermost.
#pragma once

#include "parallel/comm/communicator.h"
#include "parallel/mesh/placement.h"

namespace ksa {

// Sizes of the axes, this rank's coordinates, and the group along each axis. The communicators are not owned.
struct ProcessMesh {
  int data = 1;
  int context = 1;
  int tensor = 1;
  int data_rank = 0;
  Communicator* world = nullptr;       // all ranks
  Communicator* data_group = nullptr;  // the ranks that differ from this one in the data coordinate alone

  [[nodiscard]] int world_size() const { return data * context * tensor; }

  [[nodiscard]] int Size(MeshAxis axis) const {
    return axis == MeshAxis::kData ? data : axis == MeshAxis::kContext ? context : tensor;
  }

  // All ranks along the data axis.
  [[nodiscard]] static ProcessMesh DataParallel(Communicator& world) {
    return {.data = world.size(), .data_rank = world.rank(), .world = &world, .data_group = &world};
  }
};

}  // namespace ksa
