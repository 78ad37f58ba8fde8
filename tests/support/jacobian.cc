#include "tests/support/jacobian.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/core.h>

namespace ksa::testing {
namespace {

void Fill(const TensorView& x, double value) {
  std::fill_n(x.As<double>(), x.size(), value);
}

// Within `bound` of the largest element, and within the rounding of a sum of a few hundred terms of order 1 where
// the answer is exactly 0.
void ExpectClose(const std::vector<double>& actual,
                 const std::vector<double>& expected,
                 double bound,
                 const std::string& what) {
  constexpr double kRounding = 1e-14;
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0.0;
  for (const double x : expected) {
    largest = std::max(largest, std::abs(x));
  }
  int failures = 0;
  for (size_t i = 0; i < expected.size() && failures < 3; ++i) {
    if (!(std::abs(actual[i] - expected[i]) <= bound * largest + kRounding)) {
      ++failures;
      ADD_FAILURE() << what << ", element " << i << ": got " << actual[i] << ", expected " << expected[i]
                    << " (largest " << largest << ")";
    }
  }
}

}  // namespace

InputSpec Input(const Shape& shape, Placement tensor) {
  return {shape, Placements::Rows(tensor)};
}

ParameterSpec Weight(const std::string& name, const Shape& shape, Placement tensor) {
  return {.name = name, .shape = shape, .tensor = tensor};
}

ParameterSpec PartialWeight(const std::string& name, const Shape& shape) {
  return {.name = name, .shape = shape, .gradient_partial_over_tensor = true};
}

OpTest::OpTest(std::vector<ParameterSpec> parameters) : store_(std::move(parameters), DType::kF64, allocator_) {
  for (const Parameter& parameter : store_.parameters()) {
    const uint64_t key = NamedKey(7, parameter.spec.name);
    for (int64_t i = 0; i < parameter.value.size(); ++i) {
      parameter.value.As<double>()[i] = NormalAt(key, static_cast<uint64_t>(i));
    }
  }
}

ExecContext OpTest::Context(Tape* tape) {
  return {.tape = tape, .stream = {}, .allocator = &allocator_};
}

Var OpTest::Constant(const std::string& name, const InputSpec& spec) {
  return {Normal(name, spec.shape, DType::kF64, allocator_), spec.placement, -1};
}

void OpTest::MakeInputs(const std::vector<InputSpec>& inputs) {
  inputs_.clear();
  for (const InputSpec& input : inputs) {
    inputs_.push_back(Constant(fmt::format("input {}", inputs_.size()), input));
  }
}

double OpTest::Evaluate(const Op& op) {
  const Var y = op(Context(), inputs_);
  return cotangent_.empty() ? scale_ * y.value.As<double>()[0] : Dot(y.value, cotangent_);
}

OpTest::Gradients OpTest::Run(const Op& op, int without, bool share_cotangent) {
  Tape tape;
  const ExecContext cx = Context(&tape);
  Vars leaves;
  for (const Var& input : inputs_) {
    const bool wanted = static_cast<int>(leaves.size()) != without;
    leaves.push_back(wanted ? Leaf(cx, input.value, input.placement) : input);
  }
  {
    const Var y = op(cx, leaves);
    EXPECT_GT(tape.size(), 0U) << "the operation recorded nothing";
    Tensor dy;
    if (!cotangent_.empty()) {
      dy = share_cotangent ? cotangent_ : Clone(cotangent_, allocator_);
    }
    tape.Backward(cx, y, std::move(dy));
  }
  EXPECT_EQ(tape.size(), 0U) << "backward left nodes on the tape";
  Gradients result;
  for (const Var& leaf : leaves) {
    const Tensor grad = tape.TakeGrad(leaf.slot);
    result.inputs.push_back(grad.empty() ? std::vector<double>() : ToDouble(grad));
  }
  store_.FinishGradients(cx.stream);
  for (const Parameter& parameter : store_.parameters()) {
    result.parameters.push_back(ToDouble(parameter.grad));
  }
  return result;
}

void OpTest::CheckSlots(const Op& op, const Gradients& expected) {
  for (int without = 0; without < static_cast<int>(inputs_.size()); ++without) {
    store_.BeginUpdate();
    const Gradients other = Run(op, without, false);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (static_cast<int>(i) == without) {
        EXPECT_TRUE(other.inputs[i].empty());
      } else {
        EXPECT_EQ(other.inputs[i], expected.inputs[i])
            << "input " << i << " when input " << without << " wants no gradient";
      }
    }
    EXPECT_EQ(other.parameters, expected.parameters) << "parameters when input " << without << " wants no gradient";
  }
}

void OpTest::CheckAccumulation(const Op& op, const Gradients& once) {
  // Sums of a few hundred products that start from the first backward's result instead of 0.
  constexpr double kRounding = 1e-13;
  const Gradients twice = Run(op, -1, true);
  for (size_t i = 0; i < once.parameters.size(); ++i) {
    std::vector<double> doubled = once.parameters[i];
    for (double& x : doubled) {
      x *= 2.0;
    }
    ExpectClose(twice.parameters[i], doubled, kRounding, "a parameter's gradient after a second backward");
  }
}

void OpTest::Check(const Op& op) {
  for (const Parameter& parameter : store_.parameters()) {
    Fill(parameter.grad, std::numeric_limits<double>::quiet_NaN());
  }
  store_.BeginUpdate();
  const Tensor before = cotangent_.empty() ? Tensor() : Clone(cotangent_, allocator_);
  const Gradients gradients = Run(op, -1, true);
  if (!cotangent_.empty()) {
    ExpectSameBits(cotangent_, before, "the cotangent after backward");
  }
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const std::vector<double> numeric = CentralDifferences(inputs_[i].value, [&] { return Evaluate(op); });
    const bool reached = !gradients.inputs[i].empty();
    ExpectClose(reached ? gradients.inputs[i] : std::vector<double>(numeric.size(), 0.0),
                numeric,
                kCentralDifferenceTolerance,
                fmt::format("gradient of input {}", i));
  }
  for (size_t i = 0; i < gradients.parameters.size(); ++i) {
    const Parameter& parameter = store_.parameters()[i];
    ExpectClose(gradients.parameters[i],
                CentralDifferences(parameter.value, [&] { return Evaluate(op); }),
                kCentralDifferenceTolerance,
                "gradient of " + parameter.spec.name);
  }
  CheckAccumulation(op, gradients);
  CheckSlots(op, gradients);
}

void OpTest::ExpectGradients(const std::vector<InputSpec>& inputs, const Op& op) {
  MakeInputs(inputs);
  const Var y = op(Context(), inputs_);
  cotangent_ = Normal("cotangent", y.value.shape(), DType::kF64, allocator_);
  Tape tape;
  const Var taped = op(Context(&tape), inputs_);
  ExpectSameBits(taped.value, y.value, "the output with a tape");
  EXPECT_EQ(taped.placement, y.placement);
  EXPECT_EQ(y.slot, -1) << "without a tape there are no slots";
  tape.Clear();
  Check(op);
}

void OpTest::ExpectLossGradients(const std::vector<InputSpec>& inputs, double scale, const Op& op) {
  MakeInputs(inputs);
  cotangent_ = Tensor();
  scale_ = scale;
  Check(op);
}

}  // namespace ksa::testing
