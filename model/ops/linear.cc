#include "model/ops/linear.h"

#include <utility>

#include "kernels/gemm/gemm.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

Placements OutputPlacement(const Var& x, const Parameter& weight) {
  constexpr const char* kOp = "linear";
  Placements placement = x.placement;
  Placement& tensor = placement[MeshAxis::kTensor];
  if (weight.spec.tensor == Placement::Sharded(0)) {
    RequireTensorPlacement(kOp, x, Placement::Entered());
    tensor = Placement::Sharded(1);
  } else if (weight.spec.tensor == Placement::Sharded(1)) {
    RequireTensorPlacement(kOp, x, Placement::Sharded(1));
    tensor = Placement::Partial();
  } else {
    RequireTensorPlacement(kOp, x, Placement::Replicated());
  }
  RequireGradientPartial(kOp, weight, false);
  return placement;
}

// A run of rows and the weight that multiplies it.
struct Segment {
  int64_t first = 0;
  int64_t count = 0;
  Parameter* weight = nullptr;
};

class LinearNode final : public Node {
 public:
  LinearNode(Var x, int out, std::vector<Segment> segments)
      : x_(std::move(x)), out_(out), segments_(std::move(segments)) {}

  [[nodiscard]] const char* name() const override { return "linear"; }

  void Backward(const ExecContext& cx) override {
    const Tensor dy = cx.tape->TakeGrad(out_);
    if (dy.empty()) {
      return;
    }
    Tensor dx = cx.tape->TakeSumToAddTo(cx, x_.slot);
    const double dx_beta = dx.empty() ? 0.0 : 1.0;
    if (x_.slot >= 0 && dx.empty()) {
      dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    }
    for (const Segment& segment : segments_) {
      const TensorView dy_rows = dy.view().Rows(segment.first, segment.count);
      const TensorView x_rows = x_.value.view().Rows(segment.first, segment.count);
      if (!dx.empty()) {
        Gemm({.a = dy_rows,
              .b = segment.weight->value,
              .c = dx.view().Rows(segment.first, segment.count),
              .beta = dx_beta},
             cx.stream);
      }
      const double beta = segment.weight->Accumulate() ? 1.0 : 0.0;
      Gemm({.a = dy_rows, .b = x_rows, .c = segment.weight->grad, .transpose_a = true, .beta = beta}, cx.stream);
    }
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
  }

 private:
  Var x_;
  int out_;
  std::vector<Segment> segments_;
};

}  // namespace

Var SplitLinear(const ExecContext& cx, const Var& x, int64_t split, Parameter& weight, Parameter* weight_summary) {
  const Placements placement = OutputPlacement(x, weight);
  std::vector<Segment> segments;
  if (weight_summary == nullptr || split == x.rows()) {
    segments.push_back({0, x.rows(), &weight});
  } else {
    KSA_CHECK(weight_summary->spec.tensor == weight.spec.tensor,
              "linear: {} and {} lie differently",
              weight.spec.name,
              weight_summary->spec.name);
    RequireGradientPartial("linear", *weight_summary, false);
    segments.push_back({0, split, &weight});
    segments.push_back({split, x.rows() - split, weight_summary});
  }
  Tensor y = cx.Empty({x.rows(), weight.value.rows()}, x.value.dtype());
  for (const Segment& segment : segments) {
    Gemm({.a = x.value.view().Rows(segment.first, segment.count),
          .b = segment.weight->value,
          .c = y.view().Rows(segment.first, segment.count),
          .transpose_b = true},
         cx.stream);
  }
  Var out = Result(cx, std::move(y), placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<LinearNode>(x, out.slot, std::move(segments)));
  }
  return out;
}

}  // namespace ksa
