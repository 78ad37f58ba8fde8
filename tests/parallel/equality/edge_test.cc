// Updates that change little or nothing, on every mesh: without a target, and with a loss that is not finite on one
// rank alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/comm/threads.h"
#include "tests/parallel/equality/training.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

RunLayout LayoutOn(const MeshShape& mesh, int32_t zero) {
  return {.mesh = mesh, .sequence_parallel = mesh.tensor > 1 && zero == 0, .zero = zero, .bucket_elements = 700};
}

std::vector<std::vector<double>> WeightsOf(const Rank& rank) {
  std::vector<std::vector<double>> weights;
  for (const Parameter& parameter : rank.state.store.parameters()) {
    weights.push_back(ToDouble(parameter.value));
  }
  return weights;
}

// Runs on every mesh, ZeRO 0 and 1.
template <typename Work>
void OnEveryMesh(const Work& work) {
  for (const MeshShape& mesh : Meshes()) {
    for (const int32_t zero : {0, 1}) {
      SCOPED_TRACE(LayoutOn(mesh, zero).ToString());
      const Problem problem = MakeProblem(ModelKind::kAttend, 0, mesh.tensor);
      RunRanks(static_cast<int>(mesh.size()), [&](Communicator& world) {
        Rank rank(world, problem, LayoutOn(mesh, zero));
        work(rank);
      });
    }
  }
}

// Weights that decay do so; nothing else moves.
TEST(EqualityEdgeTest, AnUpdateWithoutTargetsDecays) {
  OnEveryMesh([](Rank& rank) {
    const std::vector<std::vector<double>> before = WeightsOf(rank);
    Batch batch = rank.Samples(1);
    std::fill(batch.targets.begin(), batch.targets.end(), Batch::kNoTarget);
    batch.target_count = 0;
    const UpdateOutcome outcome = rank.state.updater.Run(batch, 1, kLearningRate);
    EXPECT_TRUE(outcome.finite);
    EXPECT_EQ(outcome.loss, 0.0);
    EXPECT_EQ(outcome.grad_norm, 0.0);
    const std::vector<std::vector<double>> after = WeightsOf(rank);
    for (size_t p = 0; p < after.size(); ++p) {
      const ParameterSpec& spec = rank.state.store.parameters()[p].spec;
      const double factor = spec.decays ? 1.0 - kLearningRate * rank.config.optimizer.weight_decay : 1.0;
      double error = 0.0;
      for (size_t i = 0; i < after[p].size(); ++i) {
        error = std::max(error, std::abs(after[p][i] - factor * before[p][i]));
      }
      EXPECT_LE(error, spec.decays ? 1e-15 : 0.0) << spec.name;
    }
  });
}

// One embedding is infinite, and one sample of the batch has its id: a single data rank's loss is not a number. No
// rank applies the update, and the next one is as if it had not been.
TEST(EqualityEdgeTest, AnUpdateThatIsNotFiniteOnOneRankIsAppliedByNone) {
  OnEveryMesh([](Rank& rank) {
    constexpr int32_t kBadId = 61;
    const bool has_sample = rank.runtime.mesh().Rank(MeshAxis::kData) == 0;
    const auto samples = [&](bool bad) {
      Batch batch = rank.Samples(1);
      std::replace(batch.inputs.begin(), batch.inputs.end(), kBadId, 0);
      batch.inputs.front() = bad && has_sample ? kBadId : 0;
      return batch;
    };
    Parameter& embedding = rank.state.store.Get("model.embed_tokens.weight");
    const int64_t row = kBadId - embedding.shard_begin;
    const bool here = row >= 0 && row < embedding.shape[0];
    const int64_t width = embedding.shape[1];
    const std::vector<std::vector<double>> before = WeightsOf(rank);
    double kept = 0.0;
    if (here) {
      kept = ElementAt(embedding.value, row * width);
      SetElement(embedding.value, row * width, std::numeric_limits<double>::infinity());
    }
    const UpdateOutcome bad = rank.state.updater.Run(samples(true), 1, kLearningRate);
    EXPECT_FALSE(bad.finite);
    EXPECT_TRUE(std::isnan(bad.loss) || std::isnan(bad.grad_norm));
    if (here) {
      EXPECT_TRUE(std::isinf(ElementAt(embedding.value, row * width)));
      SetElement(embedding.value, row * width, kept);
    }
    EXPECT_EQ(WeightsOf(rank), before);
    const UpdateOutcome good = rank.state.updater.Run(samples(false), 1, kLearningRate);
    EXPECT_TRUE(good.finite);
    const std::vector<std::vector<double>> after = WeightsOf(rank);
    Rank fresh(rank.runtime.world(), rank.problem, LayoutOn(rank.runtime.mesh().shape(), rank.config.parallel.zero));
    const UpdateOutcome expected = fresh.state.updater.Run(samples(false), 1, kLearningRate);
    EXPECT_EQ(good.loss, expected.loss);
    EXPECT_EQ(good.grad_norm, expected.grad_norm);
    EXPECT_EQ(WeightsOf(fresh), after);
  });
}

// A gradient norm above what is allowed: no rank applies the update, and the next one is as if it had not been. One
// that is just allowed is applied.
TEST(EqualityEdgeTest, AnUpdateWithTooLargeANormIsAppliedByNone) {
  OnEveryMesh([](Rank& rank) {
    const std::vector<std::vector<double>> before = WeightsOf(rank);
    const double norm = rank.state.updater.Run(rank.Samples(1), 1, kLearningRate, 0.0).grad_norm;
    EXPECT_EQ(WeightsOf(rank), before);
    const UpdateOutcome spike = rank.state.updater.Run(rank.Samples(1), 1, kLearningRate, std::nextafter(norm, 0.0));
    EXPECT_TRUE(spike.finite);
    EXPECT_FALSE(spike.applied);
    EXPECT_EQ(spike.grad_norm, norm);
    EXPECT_EQ(WeightsOf(rank), before);
    const UpdateOutcome good = rank.state.updater.Run(rank.Samples(1), 1, kLearningRate, norm);
    EXPECT_TRUE(good.applied);
    const std::vector<std::vector<double>> after = WeightsOf(rank);
    Rank fresh(rank.runtime.world(), rank.problem, LayoutOn(rank.runtime.mesh().shape(), rank.config.parallel.zero));
    EXPECT_TRUE(fresh.state.updater.Run(rank.Samples(1), 1, kLearningRate).applied);
    EXPECT_EQ(WeightsOf(fresh), after);
  });
}

}  // namespace
}  // namespace ksa::testing
