// Random models, texts and layouts, each a pure function of a seed.
#pragma once

#include <cstdint>

#include "tests/parallel/equality/problem.h"

namespace ksa::testing {

struct RandomCase {
  Problem problem;
  RunLayout layout;
  RunLayout other;  // the same problem can run on
};

// Any meshes of up to 8 ranks, and a model and sequence that they can divide.
[[nodiscard]] RandomCase MakeRandomCase(uint64_t seed);

// All that tells it from others.
[[nodiscard]] std::string Describe(const RandomCase& random);

}  // namespace ksa::testing
