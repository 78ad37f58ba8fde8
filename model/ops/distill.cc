#include "model/ops/distill.h"

#include <utility>

#include "kernels/copy/elementwise.h"
#include "kernels/distill/attention_term.h"
#include "model/autograd/checks.h"
#include "model/autograd/recompute.h"

namespace ksa {
namespace {

class PullNode final : public Node {
 public:
  PullNode(int slot, const Shape& shape, Tensor gradient)
      : slot_(slot), shape_(shape), gradient_(std::move(gradient)) {}

  [[nodiscard]] const char* name() const override { return "pull to teacher"; }

  void Backward(const ExecContext& cx) override { cx.tape->AddGradRows(cx, slot_, shape_, 0, gradient_); }

 private:
  int slot_;
  Shape shape_;
  Tensor gradient_;  // [text rows, d]
};

bool Counts(const ExecContext& cx, const Var& x) {
  return cx.mesh == nullptr || cx.mesh->Rank(MeshAxis::kTensor) == 0 ||
         x.placement[MeshAxis::kTensor] == Placement::Sharded(0);
}

Tensor Run(const ExecContext& cx, const Var& x, const AttentionTarget& target) {
  const Shape& shape = target.teacher.shape();
  Tensor gradient;
  if (cx.tape != nullptr || cx.kept != nullptr) {
    gradient = cx.Empty(shape, x.value.dtype());
  }
  Tensor sum = target.sum;
  if (!Counts(cx, x)) {
    sum = cx.Empty({1}, DType::kF64);
    Zero(sum, cx.stream);
  }
  AttentionTerm({.student = x.value.Rows(0, shape[0]),
                 .teacher = target.teacher,
                 .dstudent = gradient,
                 .sum = sum,
                 .scale = target.scale,
                 .normalize = target.normalize,
                 .allocator = cx.allocator},
                cx.stream);
  if (cx.kept != nullptr) {
    cx.kept->tensors.push_back(gradient);
  }
  return gradient;
}

}  // namespace

Var PullToTeacher(const ExecContext& cx, const Var& x, const AttentionTarget& target) {
  RequireNotPartial("pull to teacher", x);
  Tensor gradient = RunsAgain(cx) ? cx.kept->Take() : Run(cx, x, target);
  if (cx.tape != nullptr && gradient.rows() > 0) {
    cx.tape->Record(std::make_unique<PullNode>(x.slot, x.value.shape(), std::move(gradient)));
  }
  return x;
}

}  // namespace ksa
