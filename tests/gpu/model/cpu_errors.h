// The measure of a model on GPUs: what the CPU in the same type is off by.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/gpu/support.h"
#include "tests/model/ksa/mesh_run.h"

namespace ksa::testing {

// What a pass is off by, relative to the loss and to the largest of the values.
struct Errors {
  double loss = 0.0;
  double hidden = 0.0;
  std::vector<double> gradients;  // a parameter each

  // A typical error of a gradient.
  [[nodiscard]] double Typical() const {
    double squares = 0.0;
    for (const double error : gradients) {
      squares += error * error;
    }
    return std::sqrt(squares / static_cast<double>(gradients.size()));
  }
};

inline Errors ErrorsOf(const Outcome& actual, const WholeOutcome& exact) {
  return {std::abs(actual.loss - exact.loss) / exact.loss,
          RelativeDifference(ToDouble(actual.hidden), exact.hidden),
          GradientErrors(actual.gradients, exact.gradients)};
}

// What fp64 gives with the weights that `dtype` keeps, and the largest errors of the CPU in `dtype`. The error of one
// run is a matter of luck where a tensor has few elements: the first run has the case's weights, of which `exact` is
// the outcome, and the others have weights that differ by a little.
struct CpuMeasure {
  WholeOutcome exact;
  Errors errors;
};

inline CpuMeasure MeasureCpu(const ModelCase& c, DType dtype) {
  constexpr int kDraws = 4;
  ModelHarness plain(c, dtype);
  ModelHarness exact(c, DType::kF64);
  CpuMeasure measure;
  for (int draw = 0; draw < kDraws; ++draw) {
    plain.ShakeWeights(draw);
    exact.TakeWeights(plain);
    const Outcome outcome = exact.Run();
    WholeOutcome expected = {outcome.loss, ToDouble(outcome.hidden), outcome.gradients};
    const Errors errors = ErrorsOf(plain.Run(), expected);
    measure.errors.loss = std::max(measure.errors.loss, errors.loss);
    measure.errors.hidden = std::max(measure.errors.hidden, errors.hidden);
    measure.errors.gradients.resize(errors.gradients.size());
    for (size_t p = 0; p < errors.gradients.size(); ++p) {
      measure.errors.gradients[p] = std::max(measure.errors.gradients[p], errors.gradients[p]);
    }
    if (draw == 0) {
      measure.exact = std::move(expected);
    }
  }
  return measure;
}

}  // namespace ksa::testing
