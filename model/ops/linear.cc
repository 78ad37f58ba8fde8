#include "model/ops/linear.h"

#include <utility>

#include "model/ops/linear_segments.h"

namespace ksa {
namespace {

class LinearNode final : public Node {
 public:
  LinearNode(Var x, int out, std::vector<LinearSegment> segments)
      : x_(std::move(x)), out_(out), segments_(std::move(segments)) {}

  [[nodiscard]] const char* name() const override { return "linear"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    if (x_.slot >= 0) {
      Tensor dx = cx.tape->TakeSumToAddTo(cx, x_.slot);
      const double beta = dx.empty() ? 0.0 : 1.0;
      if (dx.empty()) {
        dx = cx.Empty(x_.value.shape(), x_.value.dtype());
      }
      LinearInputGradient(cx, segments_, dy, beta, dx, {0, dy.rows()});
      cx.tape->AddGrad(cx, x_.slot, std::move(dx));
    }
    LinearWeightGradient(cx, segments_, dy, x_.value);
  }

 private:
  Var x_;
  int out_;
  std::vector<LinearSegment> segments_;
};

// y = x W^T is computed by the caller.
Var Recorded(
    const ExecContext& cx, const Var& x, Tensor y, const Placements& placement, std::vector<LinearSegment> segments) {
  Var out = Result(cx, std::move(y), placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<LinearNode>(x, out.slot, std::move(segments)));
  }
  return out;
}

}  // namespace

Var SplitLinear(const ExecContext& cx, const Var& x, int64_t split, Parameter& weight, Parameter* weight_summary) {
  const Placements placement = LinearPlacement(x, weight);
  std::vector<LinearSegment> segments = LinearSegments(x.rows(), split, weight, weight_summary);
  Tensor y = cx.Empty({x.rows(), weight.value.rows()}, x.value.dtype());
  LinearForward(cx, segments, x.value, y, {0, x.rows()});
  return Recorded(cx, x, std::move(y), placement, std::move(segments));
}

Var UnreadLinear(const ExecContext& cx, const Var& x, Parameter& weight) {
  const Placements placement = LinearPlacement(x, weight);
  Tensor y = cx.Empty({x.rows(), weight.value.rows()}, x.value.dtype());
  return Recorded(cx, x, std::move(y), placement, LinearSegments(x.rows(), x.rows(), weight, nullptr));
}

}  // namespace ksa
