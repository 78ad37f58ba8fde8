// A model case on several ranks: what each of them saw, and what they hold together.
#pragma once

#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/mesh/process_mesh.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa::testing {

// What a rank holds of the gradient of a parameter.
struct HeldGradient {
  ParameterSpec spec;
  Shape shape;
  int64_t begin = 0;  // in the sharded dimension
  std::vector<double> values;
};

struct RankOutcome {
  int context = 0;  // the rank's place on the mesh
  int tensor = 0;
  double loss = 0.0;
  std::vector<double> hidden;
  std::vector<HeldGradient> gradients;
  CommCounts counts{};  // of the tensor axis
};

// One rank's part, called by all of them; `place` is as for ModelHarness.
[[nodiscard]] RankOutcome RunRank(const ProcessMesh& mesh,
                                  const ModelCase& model_case,
                                  DType dtype,
                                  const Place& place = {},
                                  const ModelHarness::Options& options = {});

// All ranks of a mesh as threads, on the CPU; index: world rank.
[[nodiscard]] std::vector<RankOutcome> RunOnMesh(const MeshShape& shape,
                                                 bool sequence_parallel,
                                                 const ModelCase& model_case,
                                                 DType dtype,
                                                 const ModelHarness::Options& options = {});

// The loss, hidden states and gradients as an optimizer would have them: shards at their places, parts of sums added.
// Fails the test where tensor ranks that must hold the same differ in a bit.
struct WholeOutcome {
  double loss = 0.0;
  std::vector<double> hidden;
  std::vector<std::vector<double>> gradients;
};

[[nodiscard]] WholeOutcome Whole(const std::vector<RankOutcome>& ranks);

// Of every gradient: its largest error, over its largest expected element. One that is zero but for roundings is held
// against a thousandth of the largest element of all.
[[nodiscard]] std::vector<double> GradientErrors(const std::vector<std::vector<double>>& actual,
                                                 const std::vector<std::vector<double>>& expected);

// All within `bound`, relative to the largest element of each tensor.
void ExpectWithin(double bound, const WholeOutcome& actual, const Outcome& expected);

// Rank by rank, all gradients, hidden states and the loss.
void ExpectSameBits(const std::vector<RankOutcome>& actual, const std::vector<RankOutcome>& expected);

}  // namespace ksa::testing
