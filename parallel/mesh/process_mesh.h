// ProcessMesh: the ranks of a run as data × context × tensor, tensor innermost, and the groups along its axes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "parallel/comm/communicator.h"
#include "parallel/mesh/placement.h"

namespace ksa {

struct MeshShape {
  int64_t data = 1;
  int64_t context = 1;
  int64_t tensor = 1;

  [[nodiscard]] int64_t size() const { return data * context * tensor; }

  friend bool operator==(const MeshShape&, const MeshShape&) = default;
};

class ProcessMesh {
 public:
  // Gives a group what it needs to move tensors where the run computes; gets and returns the group itself. Empty: the
  // groups move tensors of the host.
  using MakeGroup = std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator> host)>;

  // All ranks of `world`, which must outlive the mesh, make the same mesh. World rank = (data · context + context rank)
  // · tensor + tensor rank. shape.size() must be the size of the world. `sequence_parallel`: between tensor-parallel
  // products each tensor rank holds a part of the rows.
  ProcessMesh(Communicator& world, const MeshShape& shape, bool sequence_parallel = false, const MakeGroup& make = {});
  ProcessMesh(const ProcessMesh&) = delete;
  ProcessMesh& operator=(const ProcessMesh&) = delete;

  [[nodiscard]] const MeshShape& shape() const { return shape_; }

  [[nodiscard]] int Size(MeshAxis axis) const { return group(axis).size(); }

  [[nodiscard]] int Rank(MeshAxis axis) const { return group(axis).rank(); }

  // Whether rows are spread over the tensor axis between products. On one tensor rank nothing moves either way, but
  // placements are checked as if.
  [[nodiscard]] bool sequence_parallel() const { return sequence_parallel_; }

  // All ranks; host values only.
  [[nodiscard]] Communicator& world() const { return world_; }

  // The ranks that differ from this one in the coordinate of `axis` alone. The data group is for host values only:
  // sums over data ranks go through state_group.
  [[nodiscard]] Communicator& group(MeshAxis axis) const { return *groups_[static_cast<size_t>(axis)]; }

  // The ranks that hold the same shards of parameters: data × context. Their gradients are summed, and ZeRO-1 divides
  // the optimizer among them.
  [[nodiscard]] Communicator& state_group() const { return *state_group_; }

  // The `replicas` neighbouring tensor ranks that share a key/value head, this one among them; made at the first call,
  // which all ranks make together. replicas divides the tensor axis.
  [[nodiscard]] Communicator& replica_group(int replicas) const;

 private:
  [[nodiscard]] std::unique_ptr<Communicator> Split(const char* name, int color, int rank, int size) const;
  [[nodiscard]] std::unique_ptr<Communicator> Make(const char* name, int color, int rank, int size) const;

  Communicator& world_;
  MeshShape shape_;
  bool sequence_parallel_;
  MakeGroup make_;
  std::array<std::unique_ptr<Communicator>, kMeshAxes> groups_;
  std::unique_ptr<Communicator> state_group_;
  mutable int replicas_ = 1;
  mutable std::unique_ptr<Communicator> replica_group_;
};

// Part `part` of `total` things spread over `parts` ranks: [floor(part·total/parts), floor((part+1)·total/parts)).
struct EvenPart {
  int64_t begin = 0;
  int64_t end = 0;

  EvenPart(int64_t total, int64_t parts, int64_t part) : begin(total * part / parts), end(total * (part + 1) / parts) {}

  [[nodiscard]] int64_t size() const { return end - begin; }
};

}  // namespace ksa
