#include "model/autograd/checks.h"

namespace ksa {

void RequireRows(const char* op, const Var& x) {
  for (const MeshAxis axis : {MeshAxis::kData, MeshAxis::kContext}) {
    const Placement& placement = x.placement[axis];
    KSA_CHECK(placement == Placement::Sharded(0) || placement == Placement::Replicated(),
              "{}: the input must hold rows over the {} axis, it is {}",
              op,
              NameOf(axis),
              x.placement.ToString());
  }
}

void RequireNotPartial(const char* op, const Var& x) {
  RequireRows(op, x);
  KSA_CHECK(x.placement[MeshAxis::kTensor] != Placement::Partial(),
            "{}: the input is {}; reduce it first",
            op,
            x.placement.ToString());
}

void RequireTensorPlacement(const char* op, const Var& x, Placement wanted) {
  RequireRows(op, x);
  KSA_CHECK(x.placement[MeshAxis::kTensor] == wanted,
            "{}: the input must be {} over the tensor axis, it is {}",
            op,
            wanted.ToString(),
            x.placement.ToString());
}

void RequireWholeRows(const char* op, const Var& x) {
  if (x.placement[MeshAxis::kTensor] == Placement::Sharded(0)) {
    RequireRows(op, x);
  } else {
    RequireTensorPlacement(op, x, Placement::Replicated());
  }
}

void RequireSamePlacement(const char* op, const Var& a, const Var& b) {
  KSA_CHECK(a.placement == b.placement,
            "{}: inputs lie differently: {} and {}",
            op,
            a.placement.ToString(),
            b.placement.ToString());
}

void RequireGradientPartial(const char* op, const Parameter& weight, bool partial) {
  KSA_CHECK(weight.spec.gradient_partial_over_tensor == partial,
            "{}: the gradient of {} is {} over the tensor axis here, but it was declared otherwise",
            op,
            weight.spec.name,
            partial ? "a part of a sum" : "whole");
}

}  // namespace ksa
