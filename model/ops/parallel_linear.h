// Products around which rows are gathered and summed: TensorEnter with the products behind it, and a product with the
// TensorReduce behind it. The same placements, rows and gradients as these one after the other
// (model/ops/collectives.h, model/ops/linear.h). Where rows are in parts, rows travel while others are multiplied:
//
//   forward   enter    this rank's text is multiplied while the other rows arrive
//             reduce   the other ranks' rows are multiplied first, and leave while this rank's text is multiplied
//   backward  enter    the gradient of the rows leaves while the gradients of the weights are computed
//             reduce   this rank's text goes through while the gradients of the other rows arrive
#pragma once

#include <span>
#include <vector>

#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "parallel/tensor/row_counts.h"

namespace ksa {

// A product of the first `rows` entered rows; summary rows use `weight_summary`, or `weight` when that is null.
struct ProductSpec {
  Parameter* weight = nullptr;
  Parameter* weight_summary = nullptr;
  int64_t rows = 0;
};

struct EnteredProducts {
  Var entered;
  std::vector<Var> products;
};

// TensorEnter of x, and column-parallel products of the result. The last product is of all rows.
[[nodiscard]] EnteredProducts EnterLinear(const ExecContext& cx,
                                          const Var& x,
                                          const RowCounts& rows,
                                          std::span<const ProductSpec> products);

// TensorReduce of the row-parallel product x W^T. `unread`: nobody reads the value, which is not computed, because this
// runs again for its backward pass alone.
[[nodiscard]] Var LinearReduce(
    const ExecContext& cx, const Var& x, const RowCounts& rows, Parameter& weight, bool unread = false);

}  // namespace ksa
