#include "model/ops/linear_segments.h"

#include <algorithm>

#include "kernels/gemm/gemm.h"
#include "model/autograd/checks.h"

namespace ksa {
namespace {

constexpr const char* kOp = "linear";

RowRange Common(const LinearSegment& segment, const RowRange& range) {
  return {std::max(segment.first, range.begin), std::min(segment.first + segment.count, range.end)};
}

}  // namespace

std::vector<LinearSegment> LinearSegments(int64_t rows, int64_t split, Parameter& weight, Parameter* weight_summary) {
  if (weight_summary == nullptr || split >= rows) {
    return {{0, rows, &weight}};
  }
  KSA_CHECK(weight_summary->spec.tensor == weight.spec.tensor,
            "linear: {} and {} lie differently",
            weight.spec.name,
            weight_summary->spec.name);
  RequireGradientPartial(kOp, *weight_summary, weight.spec.gradient_partial_over_tensor);
  return {{0, split, &weight}, {split, rows - split, weight_summary}};
}

Placements LinearPlacement(const Var& x, const Parameter& weight) {
  Placements placement = x.placement;
  Placement& tensor = placement[MeshAxis::kTensor];
  if (weight.spec.tensor == Placement::Sharded(0)) {
    RequireTensorPlacement(kOp, x, Placement::Entered());
    tensor = Placement::Sharded(1);
  } else if (weight.spec.tensor == Placement::Sharded(1)) {
    RequireTensorPlacement(kOp, x, Placement::Sharded(1));
    tensor = Placement::Partial();
  } else if (weight.spec.gradient_partial_over_tensor) {
    RequireTensorPlacement(kOp, x, Placement::Entered());
    return placement;
  } else {
    RequireTensorPlacement(kOp, x, Placement::Replicated());
  }
  RequireGradientPartial(kOp, weight, false);
  return placement;
}

void LinearForward(const ExecContext& cx,
                   const std::vector<LinearSegment>& segments,
                   const TensorView& x,
                   const TensorView& y,
                   const RowRange& range) {
  for (const LinearSegment& segment : segments) {
    const RowRange rows = Common(segment, range);
    if (rows.size() > 0) {
      Gemm({.a = x.Rows(rows.begin, rows.size()),
            .b = segment.weight->value,
            .c = y.Rows(rows.begin, rows.size()),
            .transpose_b = true},
           cx.stream);
    }
  }
}

void LinearInputGradient(const ExecContext& cx,
                         const std::vector<LinearSegment>& segments,
                         const TensorView& dy,
                         double beta,
                         const TensorView& dx,
                         const RowRange& range) {
  for (const LinearSegment& segment : segments) {
    const RowRange rows = Common(segment, range);
    if (rows.size() > 0) {
      Gemm({.a = dy.Rows(rows.begin, rows.size()),
            .b = segment.weight->value,
            .c = dx.Rows(rows.begin, rows.size()),
            .beta = beta},
           cx.stream);
    }
  }
}

void LinearWeightGradient(const ExecContext& cx,
                          const std::vector<LinearSegment>& segments,
                          const TensorView& dy,
                          const TensorView& x) {
  for (const LinearSegment& segment : segments) {
    if (!segment.weight->spec.trained) {
      continue;
    }
    const double beta = segment.weight->Accumulate() ? 1.0 : 0.0;
    Gemm({.a = dy.Rows(segment.first, segment.count),
          .b = x.Rows(segment.first, segment.count),
          .c = segment.weight->grad,
          .transpose_a = true,
          .beta = beta},
         cx.stream);
  }
}

}  // namespace ksa
