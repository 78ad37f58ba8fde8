// Meshes against one rank where kernels work in blocks: sequences of many tiles, a vocabulary whose logits are computed
// for some rows at a time, ranks of several threads.
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/parallel/equality/training.h"

namespace ksa::testing {
namespace {

void ExpectEquals(const Problem& problem, const RunLayout& layout, Difference& worst) {
  SCOPED_TRACE(problem.name + "; " + layout.ToString());
  const Difference difference = Compare(Whole(TrainOnThreads(problem, layout)), OnOneRank(problem));
  ExpectWithinBounds(difference, problem.precision);
  worst.Add(difference);
}

TEST(EqualityScaleTest, LongSequences) {
  const std::vector<MeshShape> meshes = {{1, 2, 1}, {1, 8, 1}, {2, 2, 2}, {1, 1, 8}, {1, 2, 3}};
  Difference worst;
  for (size_t m = 0; m < meshes.size(); ++m) {
    for (const ModelKind kind : kModelKinds) {
      const int bundle = static_cast<int>((m + static_cast<size_t>(kind)) % kBundles);
      Problem problem = MakeProblem(kind, bundle, meshes[m].tensor);
      problem.name += ", long";
      problem.tokens = 723;
      problem.samples = 2;
      ExpectEquals(problem,
                   {.mesh = meshes[m],
                    .sequence_parallel = meshes[m].tensor > 1 && m % 2 == 0,
                    .zero = 1,
                    .recompute = Recompute::kBlock,
                    .bucket_elements = 3000},
                   worst);
    }
  }
  fmt::print("worst of long sequences: {}\n", worst.ToString());
}

// 8 MiB, what is held of the logits, are 52 rows of this vocabulary, and up to 209 of its parts; a rank has 130 to 268.
TEST(EqualityScaleTest, LargeVocabulary) {
  Difference worst;
  for (const MeshShape& mesh : std::vector<MeshShape>{{1, 1, 2}, {1, 1, 4}, {1, 2, 2}, {1, 1, 3}}) {
    for (const int bundle : {0, 1}) {  // an output matrix of its own, and tied
      Problem problem = MakeProblem(ModelKind::kKsa, bundle, mesh.tensor);
      problem.name += ", large vocabulary";
      problem.model.vocab_size = 20011;
      problem.samples = 4;
      ExpectEquals(
          problem, {.mesh = mesh, .sequence_parallel = bundle == 1, .zero = 1, .bucket_elements = 3000}, worst);
    }
  }
  fmt::print("worst of large vocabularies: {}\n", worst.ToString());
}

TEST(EqualityScaleTest, SeveralThreadsARank) {
  Difference worst;
  for (const MeshShape& mesh : std::vector<MeshShape>{{1, 1, 1}, {2, 1, 2}, {1, 2, 2}, {2, 2, 2}, {1, 4, 1}}) {
    for (const ModelKind kind : {ModelKind::kKsa, ModelKind::kBypass}) {
      const Problem problem = MakeProblem(kind, kind == ModelKind::kKsa ? 3 : 1, mesh.tensor);
      ExpectEquals(problem, {.mesh = mesh, .zero = 1, .bucket_elements = 3000, .threads = 3}, worst);
    }
  }
  fmt::print("worst with three threads a rank: {}\n", worst.ToString());
}

}  // namespace
}  // namespace ksa::testing
