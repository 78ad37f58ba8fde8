#include "model/autograd/tape.h"

#include <utility>

#include "kernels/copy/elementwise.h"

namespace ksa {

int Tape::NewSlot() {
  slots_.emplace_back();
  return static_cast<int>(slots_.size()) - 1;
}

void Tape::Record(std::unique_ptr<Node> node) {
  nodes_.push_back(std::move(node));
}

void Tape::AddGrad(const ExecContext& cx, int slot, Tensor grad) {
  if (slot < 0 || grad.empty()) {
    return;
  }
  Tensor& sum = slots_[static_cast<size_t>(slot)];
  if (sum.empty()) {
    sum = std::move(grad);
    return;
  }
  KSA_CHECK(sum.shape() == grad.shape(),
            "gradients of one value have shapes {} and {}",
            sum.shape().ToString(),
            grad.shape().ToString());
  if (!sum.shared()) {
    Add(sum, grad, sum, cx.stream);
    return;
  }
  // Somebody else still reads the adopted buffer: the sum needs a place of its own.
  Tensor fresh = grad.shared() ? cx.Empty(sum.shape(), sum.dtype()) : grad;
  Add(sum, grad, fresh, cx.stream);
  sum = std::move(fresh);
}

void Tape::AddGradRows(const ExecContext& cx, int slot, const Shape& shape, int64_t first, const Tensor& grad) {
  if (slot < 0 || grad.empty()) {
    return;
  }
  if (first == 0 && grad.shape() == shape) {
    AddGrad(cx, slot, grad);
    return;
  }
  Tensor& sum = slots_[static_cast<size_t>(slot)];
  const int64_t count = grad.rows();
  if (sum.empty()) {
    sum = cx.Empty(shape, grad.dtype());
    Zero(sum.Rows(0, first), cx.stream);
    Copy(grad, sum.Rows(first, count), cx.stream);
    Zero(sum.Rows(first + count, shape[0] - first - count), cx.stream);
    return;
  }
  if (sum.shared()) {
    Tensor fresh = cx.Empty(shape, grad.dtype());
    Copy(sum, fresh, cx.stream);
    sum = std::move(fresh);
  }
  const Tensor part = sum.Rows(first, count);
  Add(part, grad, part, cx.stream);
}

Tensor Tape::TakeGrad(int slot) {
  return slot < 0 ? Tensor() : std::exchange(slots_[static_cast<size_t>(slot)], Tensor());
}

Tensor Tape::TakeSumToAddTo(const ExecContext& cx, int slot) {
  Tensor sum = TakeGrad(slot);
  if (sum.shared()) {
    Tensor fresh = cx.Empty(sum.shape(), sum.dtype());
    Copy(sum, fresh, cx.stream);
    sum = std::move(fresh);
  }
  return sum;
}

void Tape::Backward(const ExecContext& cx, const Var& root, Tensor grad) {
  KSA_CHECK(cx.tape == this, "backward runs with the context of its own tape");
  AddGrad(cx, root.slot, std::move(grad));
  while (!nodes_.empty()) {
    const std::unique_ptr<Node> node = std::move(nodes_.back());
    nodes_.pop_back();
    node->Backward(cx);
  }
}

void Tape::Clear() {
  while (!nodes_.empty()) {
    nodes_.pop_back();
  }
  slots_.clear();
}

Var Leaf(const ExecContext& cx, Tensor value, const Placements& placement) {
  return Result(cx, std::move(value), placement);
}

Var Result(const ExecContext& cx, Tensor value, const Placements& placement) {
  const int slot = cx.tape == nullptr ? -1 : cx.tape->NewSlot();
  return {std::move(value), placement, slot};
}

}  // namespace ksa
