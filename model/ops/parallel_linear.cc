#include "model/ops/parallel_linear.h"

#include <utility>

#include "kernels/gemm/gemm.h"
#include "model/autograd/checks.h"
#include "model/ops/collectives.h"
#include "model/ops/linear.h"
#include "model/ops/linear_segments.h"
#include "model/ops/rows.h"
#include "parallel/tensor/row_collectives.h"

namespace ksa {
namespace {

constexpr const char* kEnter = "tensor enter";
constexpr const char* kReduce = "tensor reduce";

bool RowsTravel(const ExecContext& cx) {
  return cx.mesh != nullptr && cx.mesh->sequence_parallel() && cx.mesh->Size(MeshAxis::kTensor) > 1;
}

RowOrder OrderOf(const ExecContext& cx, const RowCounts& rows) {
  return {rows, cx.mesh->Size(MeshAxis::kTensor), cx.mesh->Rank(MeshAxis::kTensor)};
}

Var WithTensorPlacement(Var x, Placement tensor) {
  x.placement[MeshAxis::kTensor] = tensor;
  return x;
}

struct Product {
  int out = -1;
  std::vector<LinearSegment> segments;
};

class EnterLinearNode final : public Node {
 public:
  EnterLinearNode(int in, Var entered, const RowCounts& rows, std::vector<Product> products)
      : in_(in), entered_(std::move(entered)), rows_(rows), products_(std::move(products)) {}

  [[nodiscard]] const char* name() const override { return "tensor enter and linear"; }

  void Backward(const ExecContext& cx) override {
    Tensor dx = cx.tape->TakeSumToAddTo(cx, entered_.slot);
    std::vector<std::pair<const Product*, Tensor>> gradients;
    for (auto product = products_.rbegin(); product != products_.rend(); ++product) {
      Tensor dy = cx.tape->TakeGrad(product->out);
      if (dy.empty()) {
        continue;
      }
      const double beta = dx.empty() ? 0.0 : 1.0;
      if (dx.empty()) {
        KSA_CHECK(
            dy.rows() == rows_.total(), "{}: the first gradient of {} rows has {}", kEnter, rows_.total(), dy.rows());
        dx = cx.Empty(entered_.value.shape(), entered_.value.dtype());
      }
      LinearInputGradient(cx, product->segments, dy, beta, dx, {0, dy.rows()});
      gradients.emplace_back(&*product, std::move(dy));
    }
    if (dx.empty()) {
      return;
    }
    Tensor held = cx.Empty(dx.shape().WithRows(HeldRows(cx, rows_).total()), dx.dtype());
    RowReduceScatter travelling(kEnter, dx, held, rows_, cx.mesh->group(MeshAxis::kTensor), *cx.allocator, cx.stream);
    for (const auto& [product, dy] : gradients) {
      LinearWeightGradient(cx, product->segments, dy, entered_.value);
    }
    travelling.Finish(cx.stream);
    cx.tape->AddGrad(cx, in_, std::move(held));
  }

 private:
  int in_;
  Var entered_;
  RowCounts rows_;
  std::vector<Product> products_;
};

class LinearReduceNode final : public Node {
 public:
  LinearReduceNode(Var x, int out, const RowCounts& rows, std::vector<LinearSegment> segments)
      : x_(std::move(x)), out_(out), rows_(rows), segments_(std::move(segments)) {}

  [[nodiscard]] const char* name() const override { return "linear and tensor reduce"; }

  void Backward(const ExecContext& cx) override {
    const Tensor held = cx.tape->TakeGrad(out_);
    if (held.empty()) {
      return;
    }
    Communicator& group = cx.mesh->group(MeshAxis::kTensor);
    const Tensor dy = cx.Empty(held.shape().WithRows(rows_.total()), held.dtype());
    PendingCalls travelling(group, cx.stream);
    GatherRows(kReduce, held, dy, rows_, group, cx.stream, Ordering::kUntilWait);
    Tensor dx = cx.tape->TakeSumToAddTo(cx, x_.slot);
    const double beta = dx.empty() ? 0.0 : 1.0;
    if (dx.empty()) {
      dx = cx.Empty(x_.value.shape(), x_.value.dtype());
    }
    const RowOrder order = OrderOf(cx, rows_);
    LinearInputGradient(cx, segments_, dy, beta, dx, order.own);
    travelling.Wait();
    for (const RowRange& range : order.others) {
      LinearInputGradient(cx, segments_, dy, beta, dx, range);
    }
    LinearWeightGradient(cx, segments_, dy, x_.value);
    cx.tape->AddGrad(cx, x_.slot, std::move(dx));
  }

 private:
  Var x_;
  int out_;
  RowCounts rows_;
  std::vector<LinearSegment> segments_;
};

// held = this rank's rows of the sum of all ranks' products.
void ReduceProduct(const ExecContext& cx,
                   const Tensor& x,
                   const RowCounts& rows,
                   const std::vector<LinearSegment>& segments,
                   const Tensor& held) {
  const Tensor whole = cx.Empty({rows.total(), held.cols()}, x.dtype());
  const RowOrder order = OrderOf(cx, rows);
  for (const RowRange& range : order.others) {
    LinearForward(cx, segments, x, whole, range);
  }
  RowReduceScatter travelling(kReduce, whole, held, rows, cx.mesh->group(MeshAxis::kTensor), *cx.allocator, cx.stream);
  LinearForward(cx, segments, x, whole, order.own);
  travelling.Finish(cx.stream);
}

// Without a tape nothing is recorded, and the products can be computed at once.
EnteredProducts EnterAndMultiply(const ExecContext& cx,
                                 const Var& x,
                                 const RowCounts& rows,
                                 std::span<const ProductSpec> products) {
  EnteredProducts result = {TensorEnter(cx, x, rows), {}};
  const Tensor& entered = result.entered.value;
  std::vector<GemmArgs> gemms;
  for (const ProductSpec& product : products) {
    const Placements placement = LinearPlacement(result.entered, *product.weight);
    Tensor y = cx.Empty({product.rows, product.weight->value.rows()}, entered.dtype());
    for (const LinearSegment& segment :
         LinearSegments(product.rows, rows.text, *product.weight, product.weight_summary)) {
      if (segment.count > 0) {
        gemms.push_back({.a = entered.view().Rows(segment.first, segment.count),
                         .b = segment.weight->value,
                         .c = y.view().Rows(segment.first, segment.count),
                         .transpose_b = true});
      }
    }
    result.products.push_back(Result(cx, std::move(y), placement));
  }
  Gemms(gemms, cx.stream);
  return result;
}

// One after the other.
EnteredProducts EnterThenLinear(const ExecContext& cx,
                                const Var& x,
                                const RowCounts& rows,
                                std::span<const ProductSpec> products) {
  EnteredProducts result = {TensorEnter(cx, x, rows), {}};
  for (const ProductSpec& product : products) {
    const Var input = Rows(cx, result.entered, 0, product.rows);
    result.products.push_back(SplitLinear(cx, input, rows.text, *product.weight, product.weight_summary));
  }
  return result;
}

}  // namespace

EnteredProducts EnterLinear(const ExecContext& cx,
                            const Var& x,
                            const RowCounts& rows,
                            std::span<const ProductSpec> products) {
  KSA_CHECK(
      !products.empty() && products.back().rows == rows.total(), "{}: the last product is not of all rows", kEnter);
  if (!RowsTravel(cx)) {
    return cx.tape == nullptr ? EnterAndMultiply(cx, x, rows, products) : EnterThenLinear(cx, x, rows, products);
  }
  RequireTensorPlacement(kEnter, x, Placement::Sharded(0));
  Communicator& group = cx.mesh->group(MeshAxis::kTensor);
  const Tensor whole = cx.Empty(x.value.shape().WithRows(rows.total()), x.value.dtype());
  PendingCalls travelling(group, cx.stream);
  GatherRows(kEnter, x.value, whole, rows, group, cx.stream, Ordering::kUntilWait);
  EnteredProducts result = {Result(cx, whole, WithTensorPlacement(x, Placement::Entered()).placement), {}};
  std::vector<Product> recorded;
  for (const ProductSpec& product : products) {
    const Placements placement = LinearPlacement(result.entered, *product.weight);
    Tensor y = cx.Empty({product.rows, product.weight->value.rows()}, x.value.dtype());
    result.products.push_back(Result(cx, std::move(y), placement));
    recorded.push_back({result.products.back().slot,
                        LinearSegments(product.rows, rows.text, *product.weight, product.weight_summary)});
  }
  const auto multiply = [&](const RowRange& range) {
    for (size_t i = 0; i < recorded.size(); ++i) {
      LinearForward(cx, recorded[i].segments, result.entered.value, result.products[i].value, range);
    }
  };
  const RowOrder order = OrderOf(cx, rows);
  multiply(order.own);
  travelling.Wait();
  for (const RowRange& range : order.others) {
    multiply(range);
  }
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<EnterLinearNode>(x.slot, result.entered, rows, std::move(recorded)));
  }
  return result;
}

Var LinearReduce(const ExecContext& cx, const Var& x, const RowCounts& rows, Parameter& weight, bool unread) {
  if (!RowsTravel(cx)) {
    return TensorReduce(cx, unread ? UnreadLinear(cx, x, weight) : Linear(cx, x, weight), rows);
  }
  Placements placement = LinearPlacement(x, weight);
  KSA_CHECK(
      placement[MeshAxis::kTensor] == Placement::Partial(), "{}: {} is not row-parallel", kReduce, weight.spec.name);
  placement[MeshAxis::kTensor] = Placement::Sharded(0);
  std::vector<LinearSegment> segments = LinearSegments(rows.total(), rows.total(), weight, nullptr);
  Tensor held = cx.Empty({HeldRows(cx, rows).total(), weight.value.rows()}, x.value.dtype());
  if (!unread) {
    ReduceProduct(cx, x.value, rows, segments, held);
  }
  Var out = Result(cx, std::move(held), placement);
  if (cx.tape != nullptr) {
    cx.tape->Record(std::make_unique<LinearReduceNode>(x, out.slot, rows, std::move(segments)));
  }
  return out;
}

}  // namespace ksa
