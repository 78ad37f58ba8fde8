#include "tests/model/ksa/model_checks.h"

#include <cmath>
#include <functional>

#include "kernels/core/philox.h"
#include "tests/support/naive_model.h"

namespace ksa::testing {

void ExpectNaiveModel(const ModelCase& c) {
  ModelHarness harness(c, DType::kF64);
  const Outcome outcome = harness.Run();
  double loss = 0.0;
  double targets = 0.0;
  GuardAllocator allocator;
  const ExecContext cx = {.tape = nullptr, .stream = {}, .allocator = &allocator};
  const Tensor logits = harness.model().Logits(cx, outcome.hidden);
  // Every document by itself: that packing changes nothing is part of the claim.
  for (const DocumentPlace& place : harness.places()) {
    const std::vector<int32_t> tokens = harness.TokensOf(place);
    const auto expected = NaiveLogits(c.config, harness.store(), tokens, c.mix);
    for (int32_t i = 0; i < place.length; ++i) {
      const std::vector<double>& row = expected[static_cast<size_t>(i)];
      EXPECT_LT(RelativeDifference(ToDouble(logits.Rows(harness.FirstRow(place) + i, 1)), row), 1e-12)
          << "sequence " << place.sequence << ", text row " << place.first + i;
      if (i + 1 < place.length) {
        loss += NaiveTokenLoss(row, tokens[static_cast<size_t>(i) + 1]);
        targets += 1.0;
      }
    }
  }
  EXPECT_NEAR(outcome.loss, loss / targets, 1e-13 * outcome.loss);
}

namespace {

// d loss / d x by five points. The fifth derivatives of these models reach 1e6, of which a step of 1e-4 leaves 3e-12;
// and it leaves 1e-11 of a rounding of 1e-15 in the loss.
double Derivative(double& x, const std::function<double()>& f) {
  constexpr double kStep = 1e-4;
  const double value = x;
  const auto at = [&](double steps) {
    x = value + steps * kStep;
    return f();
  };
  const double near = at(1.0) - at(-1.0);
  const double far = at(2.0) - at(-2.0);
  x = value;
  return (8.0 * near - far) / (12.0 * kStep);
}

}  // namespace

void ExpectNumericGradients(const ModelCase& c) {
  ModelHarness harness(c, DType::kF64);
  const Outcome outcome = harness.Run();
  for (size_t p = 0; p < outcome.gradients.size(); ++p) {
    const Parameter& parameter = harness.store().parameters()[p];
    const std::vector<double>& gradient = outcome.gradients[p];
    double largest = 0.0;
    for (const double g : gradient) {
      largest = std::max(largest, std::abs(g));
    }
    const uint64_t key = NamedKey(5, parameter.spec.name);
    for (uint64_t trial = 0; trial < 3; ++trial) {
      const size_t i = static_cast<size_t>(Philox4x32(key, trial)[0]) % gradient.size();
      const double numeric = Derivative(parameter.value.As<double>()[i], [&] { return harness.Loss(); });
      EXPECT_NEAR(gradient[i], numeric, 1e-8 * largest + 1e-10) << parameter.spec.name << ", element " << i;
    }
  }
}

}  // namespace ksa::testing
