// A kind of layer that only this program knows: its folder and a line in the registry are enough for configuration,
// parameters, cost, the model, meshes and checkpoints; and what tests and documents lack of it is named.
#include "tests/model/mixers/toy/pointwise.h"

#include <gtest/gtest.h>

#include "model/ksa/cost.h"
#include "model/ksa/parameters.h"
#include "model/mixers/full/full.h"
#include "model/mixers/ksa/ksa.h"
#include "tests/model/ksa/model_checks.h"
#include "tests/model/mixers/coverage.h"
#include "tests/parallel/equality/training.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/schema.h"

namespace ksa::testing {
namespace {

ModelCase Case(const std::string& base, const std::vector<LayerSpec>& layers) {
  ModelCase c = FindCase(base);
  c.config.layers = layers;
  c.config.num_hidden_layers = static_cast<int32_t>(layers.size());
  return c;
}

std::vector<ModelCase> Cases() {
  const LayerSpec toy = PointwiseLayer(5);
  ModelCase bypass = Case("ksa", {toy, KsaLayer(1), toy, KsaLayer(1), toy});
  bypass.config.ksa.full_layers = FullLayers::kBypass;
  return {Case("full", {toy, FullLayer()}),
          Case("full", {toy}),
          Case("ksa, m 2, GQA, everything own", {toy, KsaLayer(1), toy, KsaLayer(1)}),
          bypass};
}

TEST(ToyMixer, ModelsWithItAreTheNaiveOnes) {
  for (const ModelCase& c : Cases()) {
    ExpectNaiveModel(c);
    ExpectNumericGradients(c);
  }
}

TEST(ToyMixer, RecomputeChangesNoBit) {
  for (const ModelCase& c : Cases()) {
    ModelHarness harness(c, DType::kF32);
    const Outcome plain = harness.Run();
    for (const Recompute recompute : {Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
      const Outcome again = harness.Run({.recompute = recompute});
      EXPECT_EQ(again.loss, plain.loss);
      EXPECT_EQ(again.gradients, plain.gradients);
    }
  }
}

TEST(ToyMixer, MeshesGiveWhatOneRankGives) {
  Problem problem = MakeProblem(ModelKind::kAttend, 1, 2);
  problem.name = "with a toy";
  problem.model.layers = {KsaLayer(1), PointwiseLayer(7), KsaLayer(2), PointwiseLayer(7)};
  for (const MeshShape& mesh : {MeshShape{1, 1, 2}, MeshShape{1, 2, 1}, MeshShape{2, 1, 1}, MeshShape{1, 2, 2}}) {
    const RunLayout layout = {.mesh = mesh, .sequence_parallel = mesh.tensor > 1 && mesh.context > 1, .zero = 1};
    ExpectWithinBounds(Compare(Whole(TrainOnThreads(problem, layout)), OnOneRank(problem)), problem.precision);
  }
}

TEST(ToyMixer, IsConfigured) {
  const Snippets snippets;
  const Config config = snippets
                            .Load(
                                "model: {attention: {pattern: [ksa, pointwise, {kind: pointwise, columns: 6}, full],"
                                " pointwise: {columns: 4}}}\n")
                            .config;
  EXPECT_EQ(config.model.layers,
            (std::vector<LayerSpec>{KsaLayer(128), PointwiseLayer(4), PointwiseLayer(6), FullLayer()}));
  EXPECT_EQ(ParseConfig(RenderConfig(config), "t.yaml").config, config) << RenderConfig(config);
  EXPECT_NE(FindKey("model.attention.pointwise.columns"), nullptr);
  const Config other = snippets.Load("model: {attention: {pattern: [pointwise], pointwise: {columns: 4}}}\n").config;
  ASSERT_EQ(DiffConfigs(config, other).size(), 1U);
  EXPECT_FALSE(DiffConfigs(config, other)[0].allowed) << "a resume with another model";
  ExpectReports({
      {"model: {attention: {pattern: [{kind: pointwise, window: 3}]}}\n",
       "t.yaml:2:57: model.attention.pattern[0].window: a pointwise layer has no window; it takes columns"},
      {"model: {attention: {pattern: [{kind: pointwise, columns: 0}]}}\n",
       "t.yaml:2:58: model.attention.pattern[0].columns: must be at least 1, got 0"},
      {"model: {attention: {pattern: [pointwize]}}\n",
       "t.yaml:2:31: model.attention.pattern[0]: expected one of ksa, full, swa, sca, hca, gdn, mla, pointwise, got "
       "'pointwize'; "
       "did "
       "you mean 'pointwise'?"},
      {"model: {attention: {pointwise: {columns: 3}}}\n",
       "t.yaml:2:42: model.attention.pointwise.columns: must be even, got 3; this is an example of a rule"},
      {"model: {attention: {pattern: [pointwise], pointwise: {columns: 2}}}\nparallel: {tensor: 4}\n",
       "t.yaml:3:20: parallel.tensor: 4 ranks cannot share 2 columns of pointwise; this model takes 1, 2"},
  });
}

TEST(ToyMixer, IsCounted) {
  const ModelCase with = Case("full", {PointwiseLayer(5), FullLayer()});
  const ModelCase without = Case("full", {FullLayer()});
  const int64_t d = with.config.hidden_size;
  const int64_t block = 2 * d + 3 * d * with.config.intermediate_size;  // norms and MLP
  EXPECT_EQ(TotalParameters(with.config) - TotalParameters(without.config), 2 * 5 * d + block);
  EXPECT_EQ(CountKvCache(with.config, 100).bytes, CountKvCache(without.config, 100).bytes);
  EXPECT_EQ(ForwardFlopsPerToken(with.config, 19) - ForwardFlopsPerToken(without.config, 19),
            static_cast<double>(2 * (2 * 5 * d + block - 2 * d)));
  EXPECT_EQ(KeysPerTextQuery(with.config, 19), KeysPerTextQuery(without.config, 19) / 2);
}

// What the test of the real registry would say of a kind that was added and nowhere else mentioned.
TEST(ToyMixer, WhatIsMissingIsNamed) {
  EXPECT_EQ(MissingOf(PointwiseKind()),
            (std::vector<std::string>{"docs/configuration.md lacks the row | `pointwise` | itself |",
                                      "no configuration of configs/test has a layer of it",
                                      "no model case (tests/model/ksa/model_cases.cc) has a layer of it",
                                      "the equality matrix (tests/parallel/equality/problem.cc) has no layer of it"}));
}

}  // namespace
}  // namespace ksa::testing
