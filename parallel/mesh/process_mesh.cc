#include "parallel/mesh/process_mesh.h"

#include <utility>

#include "kernels/core/error.h"

namespace ksa {

ProcessMesh::ProcessMesh(Communicator& world, const MeshShape& shape, bool sequence_parallel, const MakeGroup& make)
    : world_(world), shape_(shape), sequence_parallel_(sequence_parallel), make_(make) {
  KSA_CHECK(shape.data >= 1 && shape.context >= 1 && shape.tensor >= 1 && shape.size() == world.size(),
            "a mesh of {} x {} x {} over {} ranks",
            shape.data,
            shape.context,
            shape.tensor,
            world.size());
  const int rank = world.rank();
  const int tensor = static_cast<int>(shape.tensor);
  const int context = static_cast<int>(shape.context);
  const int t = rank % tensor;
  const int c = rank / tensor % context;
  const int d = rank / (tensor * context);
  const int data = static_cast<int>(shape.data);
  groups_[static_cast<size_t>(MeshAxis::kData)] = Split(NameOf(MeshAxis::kData), c * tensor + t, d, data);
  groups_[static_cast<size_t>(MeshAxis::kContext)] = Make(NameOf(MeshAxis::kContext), d * tensor + t, c, context);
  groups_[static_cast<size_t>(MeshAxis::kTensor)] = Make(NameOf(MeshAxis::kTensor), d * context + c, t, tensor);
  state_group_ = Make("data x context", t, d * context + c, data * context);
}

std::unique_ptr<Communicator> ProcessMesh::Split(const char* name, int color, int rank, int size) const {
  std::unique_ptr<Communicator> group = world_.Split(color, rank, size);
  group->SetName(name);
  group->SetObserver(world_.observer());
  return group;
}

std::unique_ptr<Communicator> ProcessMesh::Make(const char* name, int color, int rank, int size) const {
  std::unique_ptr<Communicator> group = Split(name, color, rank, size);
  return make_ ? make_(std::move(group)) : std::move(group);
}

Communicator& ProcessMesh::replica_group(int replicas) const {
  if (replica_group_ == nullptr) {
    replicas_ = replicas;
    replica_group_ = Make("replicas", world_.rank() / replicas, world_.rank() % replicas, replicas);
  }
  KSA_CHECK(replicas == replicas_, "groups of {} replicas were made, {} are asked for", replicas_, replicas);
  return *replica_group_;
}

}  // namespace ksa
