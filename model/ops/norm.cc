#include "model/ops/norm.h"

#include <utility>

#include "kernels/norm/rms_norm.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

class RmsNormNode final : public Node {
 public:
  RmsNormNode(Var x, int out, Tensor rstd, int64_t split, Parameter* weight, Parameter* weight_summary)
      : x_(std::move(x)), out_(out), rstd_(std::move(rstd)), split_(split), weight_(weight), summary_(weight_summary) {}

  [[nodiscard]] const char* name() const override { return "RMSNorm"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dx = cx.tape->TakeSumToAddTo(x_.slot);
    const bool add = !dx.empty();
    if (!add) {
      dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    }
    RmsNormBackwardArgs args = {.dy = dy, .x = x_.value, .rstd = rstd_, .weight = weight_->value, .dx = dx};
    args.dx_residual = add ? dx.view() : TensorView{};
    args.dweight = weight_->grad;
    args.accumulate = weight_->Accumulate();
    args.split = split_;
    args.allocator = cx.allocator;
    if (summary_ != nullptr) {
      args.weight_summary = summary_->value;
      args.dweight_summary = summary_->grad;
      args.accumulate_summary = summary_->Accumulate();
    }
    RmsNormBackward(args, cx.stream);
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
  }

 private:
  Var x_;
  int out_;
  Tensor rstd_;  // [n]
  int64_t split_;
  Parameter* weight_;
  Parameter* summary_;
};

}  // namespace

Var RmsNorm(
    const ExecContext& cx, const Var& x, int64_t split, Parameter& weight, Parameter* weight_summary, double eps) {
  if (x.placement[MeshAxis::kTensor] != Placement::Sharded(0)) {
    RequireTensorPlacement("RMSNorm", x, Placement::Replicated());
  }
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  Tensor rstd = cx.Empty({x.rows()}, AccumulationType(x.value.dtype()));
  RmsNormForwardArgs args = {.x = x.value, .weight = weight.value, .y = y, .rstd = rstd, .split = split, .eps = eps};
  if (weight_summary != nullptr) {
    args.weight_summary = weight_summary->value;
  }
  RmsNormForward(args, cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<RmsNormNode>(x, out.slot, std::move(rstd), split, &weight, weight_summary));
  }
  return out;
}

}  // namespace ksa
