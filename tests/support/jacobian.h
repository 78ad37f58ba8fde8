// The gradient test of an operation in three lines:
//
//   OpTest test({Weight("w", {3, 4}, Placement::Sharded(0))});
//   test.ExpectGradients({Input({5, 4}, Placement::Entered())},
//                        [&](const ExecContext& cx, const Vars& x) { return Linear(cx, x[0], test.Get("w")); });
//
// Everything is fp64, and every input and parameter is filled with standard normal numbers.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/autograd/context.h"
#include "model/autograd/parameter.h"
#include "model/autograd/tape.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {

using Vars = std::vector<Var>;
using Op = std::function<Var(const ExecContext& cx, const Vars& inputs)>;

// Shape and placement of an input that gradients are asked for; data and context axes hold rows.
struct InputSpec {
  Shape shape;
  Placements placement;
};

[[nodiscard]] InputSpec Input(const Shape& shape, Placement tensor = Placement::Replicated());

// A parameter of an operation's test.
[[nodiscard]] ParameterSpec Weight(const std::string& name,
                                   const Shape& shape,
                                   Placement tensor = Placement::Replicated());

// A replicated one whose gradient is, on every tensor rank, a part of a sum.
[[nodiscard]] ParameterSpec PartialWeight(const std::string& name, const Shape& shape);

class OpTest {
 public:
  explicit OpTest(std::vector<ParameterSpec> parameters = {});

  [[nodiscard]] Parameter& Get(const std::string& name) { return store_.Get(name); }

  [[nodiscard]] ParameterStore& store() { return store_; }

  [[nodiscard]] Allocator& allocator() { return allocator_; }

  // A context without a tape.
  [[nodiscard]] ExecContext Context(Tape* tape = nullptr);

  // A value without a slot: what an operation sees when nobody asks for gradients.
  [[nodiscard]] Var Constant(const std::string& name, const InputSpec& spec);

  // Projects the output on a fixed random cotangent and compares the tape's gradient of every element of every input
  // and parameter with central differences, relative to the tensor's largest gradient. Also, in bits:
  // * the output is the same with and without a tape, and the cotangent is as before;
  // * the gradients are the same when another input wants none, and when the cotangent's memory is nobody else's.
  // And: BeginUpdate makes backward overwrite what the gradient buffer held, a second backward adds to it, and the tape
  // ends empty.
  void ExpectGradients(const std::vector<InputSpec>& inputs, const Op& op);

  // The same for an operation that returns a scalar and is the root itself: its gradients are those of scale · output.
  void ExpectLossGradients(const std::vector<InputSpec>& inputs, double scale, const Op& op);

 private:
  struct Gradients {
    std::vector<std::vector<double>> inputs;  // empty: nothing reached it
    std::vector<std::vector<double>> parameters;
  };

  void Check(const Op& op);
  void CheckSlots(const Op& op, const Gradients& expected);
  void CheckAccumulation(const Op& op, const Gradients& once);
  void MakeInputs(const std::vector<InputSpec>& inputs);
  [[nodiscard]] double Evaluate(const Op& op);
  // Forward and backward from the filled inputs; `without` is the number of an input that wants no gradient, or -1.
  [[nodiscard]] Gradients Run(const Op& op, int without, bool share_cotangent);

  GuardAllocator allocator_;
  ParameterStore store_;
  Vars inputs_;         // without slots
  Tensor cotangent_;    // empty: the output is the root
  double scale_ = 1.0;  // of a root
};

}  // namespace ksa::testing
