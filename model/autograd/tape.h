// A linear tape: the operations of a forward pass in program order, each with exactly what its backward needs.
//
// Program order is a topological order, so backward walks the tape from the end and destroys every node as it goes.
// There is no graph. Gradients of activations live in slots: the first contribution to a slot is adopted without a
// copy, further ones are added, and the node that produced the value takes the sum. Parameter gradients never pass
// through slots: operations add them to the parameter's place in the flat gradient buffer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/core/tensor.h"
#include "model/autograd/context.h"
#include "parallel/mesh/placement.h"

namespace ksa {

// A value in a forward pass. `slot` is -1 when no gradient flows to it.
struct Var {
  Tensor value;
  Placements placement;
  int slot = -1;

  [[nodiscard]] int64_t rows() const { return value.rows(); }

  [[nodiscard]] int64_t cols() const { return value.cols(); }
};

// One operation. A subclass holds its saved tensors and slots as typed members.
class Node {
 public:
  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  virtual ~Node() = default;

  [[nodiscard]] virtual const char* name() const = 0;
  virtual void Backward(const ExecContext& cx) = 0;
};

class Tape {
 public:
  // A new slot, empty.
  [[nodiscard]] int NewSlot();
  void Record(std::unique_ptr<Node> node);

  // Adds `grad` to a slot; no-op for slot -1. An empty slot adopts it.
  void AddGrad(const ExecContext& cx, int slot, Tensor grad);
  // Adds `grad` to rows [first, first + grad.rows()) of a slot whose value has `shape`; the other rows get nothing.
  void AddGradRows(const ExecContext& cx, int slot, const Shape& shape, int64_t first, const Tensor& grad);
  // Takes the sum out of a slot; empty when nothing reached it (then the node has nothing to do).
  [[nodiscard]] Tensor TakeGrad(int slot);

  // Takes the sum so far out of a slot so that a kernel can add to it in place; AddGrad gives it back. A copy when
  // somebody else still reads its buffer; empty when there is none yet.
  [[nodiscard]] Tensor TakeSumToAddTo(const ExecContext& cx, int slot);

  // Runs backward from `root` with gradient `grad`, and leaves the tape empty (slots of leaves keep their sums until
  // Clear).
  void Backward(const ExecContext& cx, const Var& root, Tensor grad);
  void Clear();

  [[nodiscard]] size_t size() const { return nodes_.size(); }

 private:
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Tensor> slots_;
};

// A value that gradients can be asked for: an input of a sub-tape or of a test.
[[nodiscard]] Var Leaf(const ExecContext& cx, Tensor value, const Placements& placement);

// The result of an operation: with a slot when there is a tape.
[[nodiscard]] Var Result(const ExecContext& cx, Tensor value, const Placements& placement);

}  // namespace ksa
