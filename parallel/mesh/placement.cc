#include "parallel/mesh/placement.h"

#include <fmt/core.h>

namespace ksa {

const char* NameOf(MeshAxis axis) {
  switch (axis) {
    case MeshAxis::kData:
      return "data";
    case MeshAxis::kContext:
      return "context";
    case MeshAxis::kTensor:
      return "tensor";
  }
  return "unknown";
}

std::string Placement::ToString() const {
  switch (kind) {
    case Kind::kReplicated:
      return "Replicated";
    case Kind::kEntered:
      return "Entered";
    case Kind::kSharded:
      return fmt::format("Sharded({})", dim);
    case Kind::kPartial:
      return "Partial";
  }
  return "unknown";
}

std::string Placements::ToString() const {
  return fmt::format("data {}, context {}, tensor {}", axes[0].ToString(), axes[1].ToString(), axes[2].ToString());
}

Placements Placements::Rows(Placement tensor) {
  Placements placements;
  placements[MeshAxis::kData] = Placement::Sharded(0);
  placements[MeshAxis::kContext] = Placement::Sharded(0);
  placements[MeshAxis::kTensor] = tensor;
  return placements;
}

}  // namespace ksa
