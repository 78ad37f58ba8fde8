#include "model/autograd/checks.h"

namespace ksa {

void RequireNotPartial(const char* op, const Var& x) {
  for (const Placement& placement : x.placement.axes) {
    KSA_CHECK(placement.kind != Placement::Kind::kPartial,
              "{}: the input is {}; reduce it first",
              op,
              x.placement.ToString());
  }
}

void RequireTensorPlacement(const char* op, const Var& x, Placement wanted) {
  RequireNotPartial(op, Var{x.value, Placements{{x.placement.axes[0], x.placement.axes[1], Placement{}}}, -1});
  KSA_CHECK(x.placement[MeshAxis::kTensor] == wanted,
            "{}: the input must be {} over the tensor axis, it is {}",
            op,
            wanted.ToString(),
            x.placement.ToString());
}

void RequireSamePlacement(const char* op, const Var& a, const Var& b) {
  KSA_CHECK(a.placement == b.placement,
            "{}: inputs lie differently: {} and {}",
            op,
            a.placement.ToString(),
            b.placement.ToString());
}

}  // namespace ksa
