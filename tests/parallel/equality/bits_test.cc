// What has the same order of arithmetic has the same bits: recomputation, a second run, a resumed run. And a run that
// goes on on another mesh is as near as one that was there from the start.
#include <vector>

#include <gtest/gtest.h>

#include "tests/parallel/equality/random_problem.h"
#include "tests/parallel/equality/training.h"
#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

RunLayout Layout(const MeshShape& mesh, int32_t zero, bool sequence_parallel) {
  return {.mesh = mesh,
          .sequence_parallel = sequence_parallel && mesh.tensor > 1,
          .zero = zero,
          .micro_batch = 1,
          .recompute = Recompute::kNone,
          .bucket_elements = 700};
}

// In fp64, or in bf16, whose master weights are apart.
Problem In(size_t number, Problem problem) {
  problem.precision = number % 2 == 0 ? DType::kF64 : DType::kBF16;
  return problem;
}

// Of a run's ranks, from update `first` (from 1) on.
std::vector<RankRun> Later(std::vector<RankRun> ranks, int64_t first) {
  for (RankRun& rank : ranks) {
    rank.losses.erase(rank.losses.begin(), rank.losses.begin() + first - 1);
    rank.norms.erase(rank.norms.begin(), rank.norms.begin() + first - 1);
  }
  return ranks;
}

TEST(EqualityBitsTest, RecomputeChangesNoBit) {
  const std::vector<MeshShape> meshes = {{1, 2, 1}, {1, 1, 2}, {1, 1, 6}, {2, 2, 2}, {1, 4, 2}, {1, 8, 1}};
  for (size_t m = 0; m < meshes.size(); ++m) {
    for (const ModelKind kind : {ModelKind::kKsa, ModelKind::kAttend, ModelKind::kBypass}) {
      const int bundle = static_cast<int>((m + static_cast<size_t>(kind)) % kBundles);
      const Problem problem = In(m + static_cast<size_t>(kind), MakeProblem(kind, bundle, meshes[m].tensor));
      RunLayout layout = Layout(meshes[m], static_cast<int32_t>(m % 2), m % 2 == 0);
      const std::vector<RankRun> expected = TrainOnThreads(problem, layout);
      for (const Recompute recompute : {Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
        layout.recompute = recompute;
        SCOPED_TRACE(problem.name + "; " + layout.ToString());
        ExpectSameBits(TrainOnThreads(problem, layout), expected);
      }
    }
  }
}

TEST(EqualityBitsTest, RecomputeOfRandomCasesChangesNoBit) {
  const Seeds seeds = SeedsToRun(15);
  for (uint64_t seed = seeds.first; seed < seeds.first + seeds.count; ++seed) {
    const RandomCase random = MakeRandomCase(seed);
    SCOPED_TRACE(Describe(random));
    const Problem problem = In(seed, random.problem);
    RunLayout layout = random.layout;
    layout.recompute = Recompute::kNone;
    const std::vector<RankRun> expected = TrainOnThreads(problem, layout);
    (void)Whole(expected);
    layout.recompute = static_cast<Recompute>(1 + seed % 3);
    ExpectSameBits(TrainOnThreads(problem, layout), expected);
  }
}

TEST(EqualityBitsTest, TwoRunsHaveTheSameBits) {
  const std::vector<MeshShape> meshes = Meshes();
  for (size_t m = 0; m < meshes.size(); ++m) {
    const Problem problem =
        In(m / 4, MakeProblem(kModelKinds[m % kModelKinds.size()], static_cast<int>(m % 4), meshes[m].tensor));
    const RunLayout layout = Layout(meshes[m], static_cast<int32_t>(m / 2 % 2), m % 2 == 0);
    SCOPED_TRACE(problem.name + "; " + layout.ToString());
    ExpectSameBits(TrainOnThreads(problem, layout), TrainOnThreads(problem, layout));
  }
}

TEST(EqualityBitsTest, ResumedOnTheSameMeshHasTheSameBits) {
  const std::vector<MeshShape> meshes = {{1, 1, 1}, {8, 1, 1}, {1, 8, 1}, {1, 1, 8}, {1, 1, 6}, {2, 2, 2}, {2, 1, 4}};
  for (size_t m = 0; m < meshes.size(); ++m) {
    for (const int32_t zero : {0, 1}) {
      const Problem problem = In(
          m, MakeProblem(kModelKinds[m % 3], static_cast<int>((m + static_cast<size_t>(zero)) % 4), meshes[m].tensor));
      const RunLayout layout = Layout(meshes[m], zero, m % 2 == 0);
      SCOPED_TRACE(problem.name + "; " + layout.ToString());
      const ScratchFolder scratch;
      (void)TrainOnThreads(problem, layout, {scratch.path(), 3, false});
      ExpectSameBits(TrainOnThreads(problem, layout, {scratch.path(), 3, true}),
                     Later(TrainOnThreads(problem, layout), 4));
    }
  }
}

TEST(EqualityBitsTest, ResumedOnAnotherMeshIsNear) {
  const std::vector<MeshShape> meshes = {{1, 1, 1}, {2, 2, 2}, {1, 1, 8}, {8, 1, 1}, {1, 8, 1}, {4, 1, 2}, {1, 2, 4}};
  Difference worst;
  for (size_t m = 0; m < meshes.size(); ++m) {
    const MeshShape& other = meshes[(m + 1) % meshes.size()];
    for (const ModelKind kind : {ModelKind::kKsa, ModelKind::kBypass}) {
      const Problem problem = MakeProblem(kind, static_cast<int>(m % kBundles), 1);
      const RunLayout first = Layout(meshes[m], static_cast<int32_t>(m % 2), m % 3 == 0);
      const RunLayout second = Layout(other, static_cast<int32_t>((m / 2) % 2), m % 3 == 1);
      SCOPED_TRACE(problem.name + "; " + first.ToString() + "; " + second.ToString());
      const ScratchFolder scratch;
      (void)TrainOnThreads(problem, first, {scratch.path(), 3, false});
      const Difference difference =
          Compare(Whole(TrainOnThreads(problem, second, {scratch.path(), 3, true})), Later(OnOneRank(problem), 4));
      ExpectWithinBounds(difference, problem.precision);
      worst.Add(difference);
    }
  }
  fmt::print("worst of resumed runs: {}\n", worst.ToString());
}

}  // namespace
}  // namespace ksa::testing
