// Products with a weight for text rows and one for summary rows, some rows at a time. Internal to the linear
// operations.
#pragma once

#include <vector>

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// A run of rows and the weight that multiplies it.
struct LinearSegment {
  int64_t first = 0;
  int64_t count = 0;
  Parameter* weight = nullptr;
};

// Rows [0, split) with `weight`, [split, rows) with `weight_summary`, or all with `weight` when that is null.
[[nodiscard]] std::vector<LinearSegment> LinearSegments(int64_t rows,
                                                        int64_t split,
                                                        Parameter& weight,
                                                        Parameter* weight_summary);

// Where x may lie, and where the product does.
[[nodiscard]] Placements LinearPlacement(const Var& x, const Parameter& weight);

// y [n, out] = x W^T, of the rows in `range`; x may have more rows than y.
void LinearForward(const ExecContext& cx,
                   const std::vector<LinearSegment>& segments,
                   const TensorView& x,
                   const TensorView& y,
                   const RowRange& range);

// dx = dy W + beta · dx, of the rows in `range`; dx may have more rows than dy.
void LinearInputGradient(const ExecContext& cx,
                         const std::vector<LinearSegment>& segments,
                         const TensorView& dy,
                         double beta,
                         const TensorView& dx,
                         const RowRange& range);

// Adds dy^T x to the gradients of the weights that are trained.
void LinearWeightGradient(const ExecContext& cx,
                          const std::vector<LinearSegment>& segments,
                          const TensorView& dy,
                          const TensorView& x);

}  // namespace ksa
