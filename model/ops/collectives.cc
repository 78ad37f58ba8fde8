#include "model/ops/collectives.h"

#include "model/autograd/checks.h"

namespace ksa {
namespace {

Var Replaced(const ExecContext& cx, const Var& x, Placement tensor) {
  KSA_CHECK(cx.mesh == nullptr || cx.mesh->Size(MeshAxis::kTensor) == 1,
            "tensor parallelism over {} ranks",
            cx.mesh->Size(MeshAxis::kTensor));
  Var out = x;  // the same value and the same slot: both directions are the identity on one rank
  out.placement[MeshAxis::kTensor] = tensor;
  return out;
}

}  // namespace

Var TensorEnter(const ExecContext& cx, const Var& x) {
  RequireTensorPlacement("tensor enter", x, Placement::Replicated());
  return Replaced(cx, x, Placement::Entered());
}

Var TensorReduce(const ExecContext& cx, const Var& x) {
  KSA_CHECK(x.placement[MeshAxis::kTensor] == Placement::Partial(),
            "tensor reduce: the input must be Partial over the tensor axis, it is {}",
            x.placement.ToString());
  return Replaced(cx, x, Placement::Replicated());
}

}  // namespace ksa
