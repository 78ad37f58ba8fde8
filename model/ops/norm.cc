#include "model/ops/norm.h"

#include <optional>
#include <utility>

#include "kernels/norm/rms_norm.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

// What forward and backward share.
struct NormSpec {
  int64_t split = 0;
  Parameter* weight = nullptr;
  Parameter* summary = nullptr;  // or null
  double eps = 0.0;
};

void Forward(const ExecContext& cx, RmsNormForwardArgs args, const NormSpec& spec) {
  args.weight = spec.weight->value;
  args.split = spec.split;
  args.eps = spec.eps;
  if (spec.summary != nullptr) {
    args.weight_summary = spec.summary->value;
  }
  RmsNormForward(args, cx.stream);
}

// The gradient of what was normed, x: `residual` (or nothing, when empty) plus what comes through the norm. It is
// written into `residual` where nobody else reads that.
Tensor Backward(const ExecContext& cx,
                const Tensor& dy,
                const Tensor& x,
                const Tensor& rstd,
                const NormSpec& spec,
                Tensor residual) {
  Tensor dx = residual.empty() || residual.shared() ? cx.Empty(x.shape(), x.dtype()) : residual;
  const GradientTarget target(*spec.weight, *cx.allocator);
  RmsNormBackwardArgs args = {.dy = dy,
                              .x = x,
                              .rstd = rstd,
                              .weight = spec.weight->value,
                              .dx_residual = residual,
                              .dx = dx,
                              .dweight = target.to,
                              .split = spec.split,
                              .accumulate = target.accumulate,
                              .allocator = cx.allocator};
  std::optional<GradientTarget> summary;
  if (spec.summary != nullptr) {
    summary.emplace(*spec.summary, *cx.allocator);
    args.weight_summary = spec.summary->value;
    args.dweight_summary = summary->to;
    args.accumulate_summary = summary->accumulate;
  }
  RmsNormBackward(args, cx.stream);
  return dx;
}

class RmsNormNode final : public Node {
 public:
  RmsNormNode(Var x, int out, Tensor rstd, const NormSpec& spec)
      : x_(std::move(x)), out_(out), rstd_(std::move(rstd)), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return "RMSNorm"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (!dy.empty()) {
      Tensor sum = cx.tape->TakeGrad(x_.slot);
      cx.tape->AddGrad(cx, x_.slot, ksa::Backward(cx, dy, x_.value, rstd_, spec_, std::move(sum)));
    }
  }

 private:
  Var x_;
  int out_;
  Tensor rstd_;  // [n]
  NormSpec spec_;
};

class AddRmsNormNode final : public Node {
 public:
  AddRmsNormNode(int x, int delta, Var sum, int out, Tensor rstd, const NormSpec& spec)
      : x_(x), delta_(delta), sum_(std::move(sum)), out_(out), rstd_(std::move(rstd)), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return "add and RMSNorm"; }

  void Backward(const ExecContext& cx) override {
    Tensor dsum = cx.tape->TakeGrad(sum_.slot);
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (!dy.empty()) {
      dsum = ksa::Backward(cx, dy, sum_.value, rstd_, spec_, std::move(dsum));
    }
    cx.tape->AddGrad(cx, delta_, dsum);
    cx.tape->AddGrad(cx, x_, std::move(dsum));
  }

 private:
  int x_;
  int delta_;
  Var sum_;
  int out_;
  Tensor rstd_;  // [n]
  NormSpec spec_;
};

void CheckPlacement(const Var& x, const NormSpec& spec) {
  constexpr const char* kOp = "RMSNorm";
  const Placement& tensor = x.placement[MeshAxis::kTensor];
  if (tensor == Placement::Entered()) {
    RequireRows(kOp, x);
  } else {
    RequireWholeRows(kOp, x);
  }
  const bool in_parts = tensor == Placement::Sharded(0) || tensor == Placement::Entered();
  RequireGradientPartial(kOp, *spec.weight, in_parts);
  if (spec.summary != nullptr) {
    RequireGradientPartial(kOp, *spec.summary, in_parts);
  }
}

}  // namespace

Var RmsNorm(
    const ExecContext& cx, const Var& x, int64_t split, Parameter& weight, Parameter* weight_summary, double eps) {
  const NormSpec spec = {split, &weight, weight_summary, eps};
  CheckPlacement(x, spec);
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  Tensor rstd = cx.Empty({x.rows()}, AccumulationType(x.value.dtype()));
  Forward(cx, {.x = x.value, .y = y, .rstd = rstd}, spec);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<RmsNormNode>(x, out.slot, std::move(rstd), spec));
  }
  return out;
}

NormedSum AddRmsNorm(const ExecContext& cx,
                     const Var& x,
                     const Var& delta,
                     int64_t split,
                     Parameter& weight,
                     Parameter* weight_summary,
                     double eps) {
  const NormSpec spec = {split, &weight, weight_summary, eps};
  CheckPlacement(x, spec);
  RequireSamePlacement("add and RMSNorm", x, delta);
  KSA_CHECK(x.value.shape() == delta.value.shape(),
            "add and RMSNorm: shapes {} and {}",
            x.value.shape().ToString(),
            delta.value.shape().ToString());
  Tensor sum = cx.Empty(x.value.shape(), x.value.dtype());
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  Tensor rstd = cx.Empty({x.rows()}, AccumulationType(x.value.dtype()));
  Forward(cx, {.x = x.value, .residual = delta.value, .sum_out = sum, .y = y, .rstd = rstd}, spec);
  NormedSum out = {Result(cx, std::move(sum), x.placement), Result(cx, std::move(y), x.placement)};
  if (cx.tape != nullptr) {
    cx.tape->Record(
        std::make_unique<AddRmsNormNode>(x.slot, delta.slot, out.sum, out.normed.slot, std::move(rstd), spec));
  }
  return out;
}

}  // namespace ksa
