#include "model/ops/rope.h"

#include <optional>
#include <utility>

#include "kernels/rope/qk_norm_rope.h"
#include "model/autograd/checks.h"
#include "model/ops/heads.h"

namespace ksa {
namespace {

class QkNormRopeNode final : public Node {
 public:
  QkNormRopeNode(Var x, int out, Tensor rstd, const QkNormRopeSpec& spec)
      : x_(std::move(x)), out_(out), rstd_(std::move(rstd)), spec_(spec) {}

  [[nodiscard]] const char* name() const override { return "q/k norm and RoPE"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    QkNormRopeBackwardArgs args = {.dy = Heads(dy, spec_.head_dim),
                                   .x = Heads(x_.value, spec_.head_dim),
                                   .table = spec_.table,
                                   .dx = Heads(dx, spec_.head_dim),
                                   .layout = spec_.layout,
                                   .first_row = spec_.first_row,
                                   .split = spec_.split,
                                   .allocator = cx.allocator};
    std::optional<GradientTarget> weight;
    std::optional<GradientTarget> summary;
    if (spec_.weight != nullptr) {
      weight.emplace(*spec_.weight, *cx.allocator);
      args.rstd = rstd_;
      args.weight = spec_.weight->value;
      args.dweight = weight->to;
      args.accumulate = weight->accumulate;
    }
    if (spec_.weight_summary != nullptr) {
      summary.emplace(*spec_.weight_summary, *cx.allocator);
      args.weight_summary = spec_.weight_summary->value;
      args.dweight_summary = summary->to;
      args.accumulate_summary = summary->accumulate;
    }
    QkNormRopeBackward(args, cx.stream);
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
  }

 private:
  Var x_;
  int out_;
  Tensor rstd_;  // [n, heads]
  QkNormRopeSpec spec_;
};

}  // namespace

Var QkNormRope(const ExecContext& cx, const Var& x, const QkNormRopeSpec& spec) {
  constexpr const char* kOp = "q/k norm and RoPE";
  RequireTensorPlacement(kOp, x, Placement::Sharded(1));
  for (const Parameter* weight : {spec.weight, spec.weight_summary}) {
    if (weight != nullptr) {
      RequireGradientPartial(kOp, *weight, true);
    }
  }
  KSA_CHECK(x.cols() % spec.head_dim == 0, "{} columns are no whole number of heads of {}", x.cols(), spec.head_dim);
  Tensor y = cx.Empty(x.value.shape(), x.value.dtype());
  QkNormRopeForwardArgs args = {.x = Heads(x.value, spec.head_dim),
                                .table = spec.table,
                                .y = Heads(y, spec.head_dim),
                                .layout = spec.layout,
                                .first_row = spec.first_row,
                                .split = spec.split,
                                .eps = spec.eps};
  Tensor rstd;
  if (spec.weight != nullptr) {
    rstd = cx.Empty({x.rows(), x.cols() / spec.head_dim}, AccumulationType(x.value.dtype()));
    args.weight = spec.weight->value;
    args.rstd = rstd;
  }
  if (spec.weight_summary != nullptr) {
    args.weight_summary = spec.weight_summary->value;
  }
  QkNormRopeForward(args, cx.stream);
  Var out = Result(cx, std::move(y), x.placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<QkNormRopeNode>(x, out.slot, std::move(rstd), spec));
  }
  return out;
}

}  // namespace ksa
