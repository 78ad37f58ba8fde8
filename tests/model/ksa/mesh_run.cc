#include "tests/model/ksa/mesh_run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel/comm/threads.h"

namespace ksa::testing {
namespace {

void AddTo(std::vector<double>& sum, const std::vector<double>& x) {
  sum.resize(x.size(), 0.0);
  std::transform(x.begin(), x.end(), sum.begin(), sum.begin(), [](double a, double b) { return a + b; });
}

// Adds a rank's part to a whole gradient.
void AddPart(const HeldGradient& part, std::vector<double>& whole) {
  const bool columns = part.spec.tensor == Placement::Sharded(1);
  const int64_t whole_width = part.spec.shape.size() / part.spec.shape[0];
  const int64_t width = columns ? part.shape[1] : whole_width;
  const int64_t first = columns ? part.begin : part.begin * whole_width;
  for (size_t i = 0; i < part.values.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    whole[static_cast<size_t>(first + at / width * whole_width + at % width)] += part.values[i];
  }
}

double Largest(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double x : values) {
    largest = std::max(largest, std::abs(x));
  }
  return largest;
}

bool SameOnTensorRanks(const ParameterSpec& spec) {
  return spec.tensor == Placement::Replicated() && !spec.gradient_partial_over_tensor;
}

}  // namespace

RankOutcome RunRank(const ProcessMesh& mesh,
                    const ModelCase& model_case,
                    DType dtype,
                    const Place& place,
                    const ModelHarness::Options& options) {
  ModelHarness harness(model_case, dtype, place, &mesh);
  const Outcome outcome = harness.Run(options);
  RankOutcome mine = {.context = mesh.Rank(MeshAxis::kContext),
                      .tensor = mesh.Rank(MeshAxis::kTensor),
                      .loss = outcome.loss,
                      .hidden = ToDouble(outcome.hidden),
                      .gradients = {},
                      .counts = mesh.group(MeshAxis::kTensor).counts()};
  for (size_t p = 0; p < outcome.gradients.size(); ++p) {
    const Parameter& parameter = harness.store().parameters()[p];
    mine.gradients.push_back({parameter.spec, parameter.shape, parameter.shard_begin, outcome.gradients[p]});
  }
  return mine;
}

std::vector<RankOutcome> RunOnMesh(const MeshShape& shape,
                                   bool sequence_parallel,
                                   const ModelCase& model_case,
                                   DType dtype,
                                   const ModelHarness::Options& options) {
  std::vector<RankOutcome> outcomes(static_cast<size_t>(shape.size()));
  RunRanks(static_cast<int>(shape.size()), [&](Communicator& world) {
    const ProcessMesh mesh(world, shape, sequence_parallel);
    outcomes[static_cast<size_t>(world.rank())] = RunRank(mesh, model_case, dtype, {}, options);
  });
  return outcomes;
}

WholeOutcome Whole(const std::vector<RankOutcome>& ranks) {
  WholeOutcome whole;
  const RankOutcome* first = nullptr;  // tensor rank 0 of the same context rank
  for (const HeldGradient& gradient : ranks.front().gradients) {
    whole.gradients.emplace_back(static_cast<size_t>(gradient.spec.shape.size()), 0.0);
  }
  for (const RankOutcome& rank : ranks) {
    if (rank.tensor == 0) {
      first = &rank;
      whole.loss += rank.loss;
      AddTo(whole.hidden, rank.hidden);
    } else {
      EXPECT_EQ(rank.loss, first->loss);
      EXPECT_EQ(rank.hidden, first->hidden);
    }
    for (size_t p = 0; p < whole.gradients.size(); ++p) {
      const HeldGradient& gradient = rank.gradients[p];
      if (rank.tensor == 0 || !SameOnTensorRanks(gradient.spec)) {
        AddPart(gradient, whole.gradients[p]);
      } else {
        EXPECT_EQ(gradient.values, first->gradients[p].values) << gradient.spec.name << " differs between ranks";
      }
    }
  }
  return whole;
}

std::vector<double> GradientErrors(const std::vector<std::vector<double>>& actual,
                                   const std::vector<std::vector<double>>& expected) {
  double largest = 0.0;
  for (const std::vector<double>& gradient : expected) {
    largest = std::max(largest, Largest(gradient));
  }
  std::vector<double> errors;
  for (size_t p = 0; p < expected.size(); ++p) {
    double error = actual[p].size() == expected[p].size() ? 0.0 : std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < expected[p].size() && i < actual[p].size(); ++i) {
      const double d = std::abs(actual[p][i] - expected[p][i]);
      error = d <= error ? error : (std::isnan(d) ? std::numeric_limits<double>::infinity() : d);
    }
    errors.push_back(error / std::max(Largest(expected[p]), 1e-3 * largest));
  }
  return errors;
}

void ExpectWithin(double bound, const WholeOutcome& actual, const Outcome& expected) {
  EXPECT_NEAR(actual.loss, expected.loss, bound * expected.loss);
  EXPECT_LT(RelativeDifference(actual.hidden, ToDouble(expected.hidden)), bound);
  const std::vector<double> errors = GradientErrors(actual.gradients, expected.gradients);
  for (size_t p = 0; p < errors.size(); ++p) {
    EXPECT_LT(errors[p], bound) << "parameter " << p;
  }
}

void ExpectSameBits(const std::vector<RankOutcome>& actual, const std::vector<RankOutcome>& expected) {
  for (size_t r = 0; r < expected.size(); ++r) {
    EXPECT_EQ(actual[r].loss, expected[r].loss);
    EXPECT_EQ(actual[r].hidden, expected[r].hidden);
    for (size_t p = 0; p < expected[r].gradients.size(); ++p) {
      EXPECT_EQ(actual[r].gradients[p].values, expected[r].gradients[p].values)
          << "rank " << r << ", " << expected[r].gradients[p].spec.name;
    }
  }
}

}  // namespace ksa::testing
