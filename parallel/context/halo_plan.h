// Context parallelism of operations that read a few rows of text before each row: which tokens before its runs of
// chunks a rank needs, and who has them. Arithmetic on tokens; the same for every sequence of a batch. Documents do not
// change these sets.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/summary_layout.h"

namespace ksa {

// Tokens [begin, end) of a sequence, all of one slice, that come from or go to `peer`, who needs them (or has them)
// before run `run` of the receiver. A peer may be the rank itself.
struct HaloPiece {
  int peer = 0;
  int32_t run = 0;
  int32_t begin = 0;
  int32_t end = 0;
  int32_t before = 0;  // tokens from `begin` to the run's first

  [[nodiscard]] int32_t size() const { return end - begin; }
};

// Both ends list what one sends to the other in the same order: by run of the receiver, then by token.
struct HaloPlan {
  std::vector<HaloPiece> sends;
  std::vector<HaloPiece> receives;
};

// The `reach` tokens before each run of rank `rank` of `ranks`, as far as the sequence has them.
[[nodiscard]] HaloPlan PlanHalo(const SummaryLayout& whole, int32_t reach, int ranks, int rank);

// The row of text, among those of one sequence of a rank, that is token `token`, one of its own.
[[nodiscard]] int32_t TextRowOf(const SummaryLayout& local, int32_t token);

}  // namespace ksa
