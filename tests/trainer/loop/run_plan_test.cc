// What `ksa plan` says of a run, and which meshes it takes for the best.
#include "trainer/loop/run_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "model/ksa/cost.h"
#include "trainer/config/load.h"

namespace ksa {
namespace {

Config Small(const std::vector<std::string>& sets) {
  Config config = ParseConfig(
                      "run: {name: plan}\n"
                      "model: {vocab_size: 257, hidden_size: 128, intermediate_size: 256, num_hidden_layers: 4,"
                      " num_attention_heads: 4, attention: {pattern: [ksa, ksa, ksa, full], ksa: {window_chunks: 4}}}\n"
                      "data: {train: [{path: data/a/train}]}\n"
                      "training: {sequence_length: 256, global_batch_size: 8, max_steps: 100}\n"
                      "optimizer: {lr: 1e-3}\n",
                      "plan.yaml",
                      sets)
                      .config;
  ResolveForGpu(config);
  return config;
}

TEST(RunPlan, SumsUpTheRun) {
  const Config config = Small({});
  const RunPlan plan = PlanRun(config, FindDevice("h200"), {.ranks = 2});
  EXPECT_EQ(plan.device, "H200");
  ASSERT_TRUE(plan.here);
  EXPECT_TRUE(plan.best.empty());
  EXPECT_EQ(plan.parameters, TotalParameters(config.model));
  EXPECT_EQ(plan.checkpoint_bytes, 12 * plan.parameters);
  EXPECT_EQ(plan.tokens_per_update, 8 * 256);
  EXPECT_EQ(plan.here->mesh, (MeshShape{.data = 2}));
  EXPECT_EQ(plan.here->micro_batches, 4);
  EXPECT_TRUE(plan.here->fits);
  ASSERT_TRUE(plan.Days());
  EXPECT_DOUBLE_EQ(*plan.Days(), plan.here->seconds->Total() * 100 / 86400);
  // Useful operations of both ranks are three forward passes.
  EXPECT_EQ(2.0 * static_cast<double>(plan.here->counts.useful), 3.0 * plan.forward_flops_per_token * 8 * 256);
  // Every element of the gradients once to each, of the weights likewise (ZeRO-1), and the norm.
  const CommCounts& state = plan.here->counts.Of(TrafficGroup::kState);
  EXPECT_GE(state[static_cast<size_t>(CollectiveKind::kReduceScatter)].sent, 4 * plan.parameters / 2);
  EXPECT_GE(state[static_cast<size_t>(CollectiveKind::kAllGather)].sent, 2 * plan.parameters / 2);
}

TEST(RunPlan, TheBestMeshesAreOfAllRanksAndInOrder) {
  const RunPlan plan = PlanRun(Small({}), FindDevice("H200"), {.ranks = 8, .search = true});
  std::vector<MeshShape> meshes;
  for (size_t i = 0; i < plan.best.size(); ++i) {
    const MeshPlan& mesh = plan.best[i];
    EXPECT_EQ(mesh.mesh.size(), 8);
    EXPECT_EQ(std::count(meshes.begin(), meshes.end(), mesh.mesh), 0);
    meshes.push_back(mesh.mesh);
    if (i > 0) {
      EXPECT_LE(plan.best[i - 1].seconds->Total(), mesh.seconds->Total());
    }
  }
  // 4 heads, 32 chunks: context up to 8, tensor up to 4.
  EXPECT_EQ(plan.best.size(), 9U);
  EXPECT_EQ(plan.Chosen(), &*plan.here);
}

TEST(RunPlan, AMeshThatDoesNotFitIsTriedWithRecompute) {
  const Config config = Small({"training.global_batch_size=1"});
  KnownDevice device = FindDevice("H200");
  const RunPlan roomy = PlanRun(config, device, {.search = true});
  device.memory_bytes = roomy.best[0].memory.Total() - 1;
  const RunPlan tight = PlanRun(config, device, {.search = true});
  EXPECT_EQ(roomy.best[0].recompute, Recompute::kNone);
  EXPECT_EQ(tight.best[0].recompute, Recompute::kBlock);
  EXPECT_TRUE(tight.best[0].fits);
  EXPECT_FALSE(tight.here->fits) << "the configured mesh is as configured";
  device.memory_bytes = 1;
  EXPECT_FALSE(PlanRun(config, device, {.search = true}).best[0].fits);
}

TEST(RunPlan, RanksThatCannotFormTheMeshGetTheBestOne) {
  const RunPlan plan = PlanRun(Small({"parallel.context=3"}), FindDevice("H200"), {.ranks = 4, .search = true});
  EXPECT_FALSE(plan.here);
  EXPECT_NE(plan.problem.find("context 3"), std::string::npos) << plan.problem;
  EXPECT_EQ(plan.Chosen(), &plan.best[0]);
}

TEST(RunPlan, TimesAreOfBf16Alone) {
  EXPECT_THROW(static_cast<void>(Small({"training.precision=fp64"})), Error);
  const RunPlan plan = PlanRun(Small({"training.precision=fp32"}), FindDevice("H200"), {});
  EXPECT_FALSE(plan.here->seconds);
  EXPECT_FALSE(plan.Days());
  EXPECT_GT(plan.here->memory.Total(), 0);
}

TEST(RunPlan, AnUnknownDeviceIsRefusedWithTheNames) {
  try {
    static_cast<void>(FindDevice("H9000"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("H200, H100"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace ksa
