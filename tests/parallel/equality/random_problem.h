// Random models, texts and layouts, each a pure function of a seed.
#pragma once

#include <cstdint>
#include <string>

#include "tests/parallel/equality/problem.h"

namespace ksa::testing {

struct RandomCase {
  Problem problem;
  RunLayout layout;
  RunLayout other;  // the same problem can run on
};

// Any meshes of up to 8 ranks, and a model and sequence that they can divide.
[[nodiscard]] RandomCase MakeRandomCase(uint64_t seed);

// Seeds first, first + 1, ...: `count` of them from 1 on, or those of the environment variable KSA_RANDOM_CASES="FIRST
// COUNT".
struct Seeds {
  uint64_t first = 1;
  uint64_t count = 0;
};

[[nodiscard]] Seeds SeedsToRun(uint64_t count);

// All that tells it from others.
[[nodiscard]] std::string Describe(const RandomCase& random);

}  // namespace ksa::testing
