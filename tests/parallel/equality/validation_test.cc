// Loss on held-out data, on every mesh against one rank: documents or not, batches that do not divide among data ranks,
// data ranks without a sample.
#include "trainer/evaluate/validation.h"

#include <vector>

#include <gtest/gtest.h>

#include "data/loader/dataset.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/philox.h"
#include "parallel/comm/threads.h"
#include "tests/data/support.h"
#include "tests/parallel/equality/training.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

constexpr int32_t kEnd = 256;  // of a document, in bytes

// Documents of 1 to 61 bytes and their end.
TestDocuments SomeDocuments() {
  TestDocuments documents;
  const uint64_t key = NamedKey(5, "documents");
  for (uint64_t d = 0; d < 30; ++d) {
    std::vector<int32_t> document(1 + Philox4x32(key, d)[0] % 61);
    for (size_t i = 0; i < document.size(); ++i) {
      document[i] = static_cast<int32_t>(Philox4x32(key, 100 + i, d)[0] % 256);
    }
    document.push_back(kEnd);
    documents.push_back(document);
  }
  return documents;
}

Problem ProblemOn(const MeshShape& mesh, ModelKind kind, bool documents) {
  Problem problem = MakeProblem(kind, documents ? 1 : 2, mesh.tensor);
  problem.model.vocab_size = 257;
  return problem;
}

// By rank. `wanted` samples; 0: all.
std::vector<EvaluationSums> Evaluate(const Problem& problem,
                                     const RunLayout& layout,
                                     const std::string& shards,
                                     int64_t wanted = 7) {
  std::vector<EvaluationSums> sums(static_cast<size_t>(layout.mesh.size()), EvaluationSums(problem.tokens, 0));
  const Dataset dataset({.train = {},
                         .validation = {{shards, "held out"}},
                         .document_mask = problem.documents,
                         .sequence_length = problem.tokens,
                         .chunk_size = problem.model.ChunkSize(),
                         .vocab_size = problem.model.vocab_size});
  RunRanks(static_cast<int>(layout.mesh.size()), [&](Communicator& world) {
    Rank rank(world, problem, layout);
    Evaluator evaluator(rank.runtime, rank.state.model, dataset, 2);
    const int64_t there = dataset.validation_sources()[0].samples;
    const EvenSamples samples = TakeEvenly(wanted == 0 ? there : wanted, there);
    sums[static_cast<size_t>(world.rank())] = evaluator.Run(0, samples, 1.0).value();
    const std::vector<ValidationResult> results =
        *evaluator.RunAll(wanted == 0 ? std::nullopt : std::optional(wanted), 1.0);
    ASSERT_EQ(results.size(), 1U);
    EXPECT_EQ(results[0].name, "held out");
    EXPECT_EQ(results[0].loss, sums[static_cast<size_t>(world.rank())].MeanLoss());
    EXPECT_EQ(results[0].standard_error, sums[static_cast<size_t>(world.rank())].StandardError());
    EXPECT_EQ(results[0].samples_read, samples.taken);
    EXPECT_EQ(results[0].samples_there, there);
  });
  return sums;
}

TEST(EqualityValidationTest, EveryMeshSeesTheLossOfOneRank) {
  const TestFolder folder;
  const std::string shards = folder / "held_out";
  WriteShards(shards, {SomeDocuments()}, *MakeByteTokenizer());
  for (const MeshShape& mesh : Meshes()) {
    for (const bool documents : {false, true}) {
      for (const ModelKind kind : {ModelKind::kKsa, ModelKind::kBypass}) {
        const Problem problem = ProblemOn(mesh, kind, documents);
        const RunLayout layout = {.mesh = mesh, .sequence_parallel = mesh.tensor > 1 && documents};
        SCOPED_TRACE(problem.name + "; " + layout.ToString());
        const EvaluationSums expected = Evaluate(problem, {}, shards).front();
        EXPECT_GT(expected.targets, 100);
        const std::vector<EvaluationSums> ranks = Evaluate(problem, layout, shards);
        for (const EvaluationSums& sums : ranks) {
          EXPECT_NEAR(sums.loss, expected.loss, 1e-12 * expected.loss);
          EXPECT_EQ(sums.targets, expected.targets);
          EXPECT_LT(RelativeDifference(sums.position_loss, expected.position_loss), 1e-12);
          EXPECT_EQ(sums.position_targets, expected.position_targets);
          EXPECT_LT(RelativeDifference(sums.sample_loss, expected.sample_loss), 1e-12);
          EXPECT_EQ(sums.sample_targets, expected.sample_targets);
          EXPECT_EQ(sums.sample_loss.size(), 7U);
          EXPECT_EQ(sums.sample_loss, ranks.front().sample_loss);
          EXPECT_EQ(sums.loss, ranks.front().loss) << "ranks have different losses";
          EXPECT_EQ(sums.position_loss, ranks.front().position_loss);
        }
      }
    }
  }
}

// The losses of the samples that are taken are those that they have when all are.
TEST(EqualityValidationTest, TakesSamplesFromAllOverTheSource) {
  const TestFolder folder;
  const std::string shards = folder / "held_out";
  WriteShards(shards, {SomeDocuments()}, *MakeByteTokenizer());
  const Problem problem = ProblemOn({}, ModelKind::kKsa, false);
  const EvaluationSums all = Evaluate(problem, {}, shards, 0).front();
  const auto there = static_cast<int64_t>(all.sample_loss.size());
  ASSERT_GT(there, 14);
  for (const int64_t wanted : {int64_t{1}, int64_t{7}, there - 1, there}) {
    const EvaluationSums sums = Evaluate(problem, {}, shards, wanted).front();
    ASSERT_EQ(static_cast<int64_t>(sums.sample_loss.size()), wanted);
    double loss = 0;
    for (int64_t j = 0; j < wanted; ++j) {
      const double expected = all.sample_loss[static_cast<size_t>(j * there / wanted)];
      EXPECT_NEAR(sums.sample_loss[static_cast<size_t>(j)], expected, 1e-12 * expected) << j << " of " << wanted;
      loss += expected;
    }
    EXPECT_NEAR(sums.loss, loss, 1e-12 * loss);
  }
}

}  // namespace
}  // namespace ksa::testing
