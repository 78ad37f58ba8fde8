// What holds for a model of every kind.
#pragma once

#include "tests/model/ksa/model_cases.h"

namespace ksa::testing {

// Logits and loss in fp64 are those of the naive model.
void ExpectNaiveModel(const ModelCase& c);

// Some elements of every gradient are those of central differences.
void ExpectNumericGradients(const ModelCase& c);

}  // namespace ksa::testing
