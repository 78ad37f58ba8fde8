// The plan of a GPU run's memory, which needs no GPU: it is made wherever the kernels are built.
#include "trainer/loop/memory_plan.h"

#include <gtest/gtest.h>

#include "trainer/config/load.h"

namespace ksa {
namespace {

Config Small(const std::vector<std::string>& sets) {
  Config config = ParseConfig(
                      "run: {name: plan}\n"
                      "model: {vocab_size: 257, hidden_size: 128, intermediate_size: 256, num_hidden_layers: 4,"
                      " num_attention_heads: 2, attention: {pattern: [ksa, ksa, ksa, full], ksa: {window_chunks: 4}}}\n"
                      "data: {train: [{path: data/a/train}]}\n"
                      "training: {sequence_length: 256, global_batch_size: 8, micro_batch_size: 2, max_steps: 100}\n"
                      "optimizer: {lr: 1e-3}\n",
                      "plan.yaml",
                      sets)
                      .config;
  config.training.precision = config.training.precision.value_or(DType::kBF16);
  return config;
}

class MemoryPlanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!BuildHasCuda()) {
      GTEST_SKIP() << "this build has no CUDA kernels, whose memory the plan counts";
    }
  }
};

TEST_F(MemoryPlanTest, StateIsWhatTheParametersTake) {
  const MemoryPlan plan = PlanMemory(Small({}), 1);
  EXPECT_EQ(plan.gradients, 2 * plan.weights);
  EXPECT_EQ(plan.master_weights, 2 * plan.weights);
  EXPECT_EQ(plan.moments, 4 * plan.weights);
  EXPECT_GT(plan.activations, 0);
  EXPECT_GE(plan.unused, 0);
}

TEST_F(MemoryPlanTest, ActivationsGrowWithTheMicroBatchAndShrinkWithRecompute) {
  const auto activations = [](const std::vector<std::string>& sets) { return PlanMemory(Small(sets), 1).activations; };
  const int64_t two = activations({});
  EXPECT_GT(activations({"training.micro_batch_size=4"}), two * 3 / 2);
  EXPECT_LT(activations({"training.recompute=mlp"}), two);
  EXPECT_LT(activations({"training.recompute=block"}), activations({"training.recompute=mlp"}));
}

TEST_F(MemoryPlanTest, ZeroDividesTheOptimizerState) {
  const MemoryPlan one = PlanMemory(Small({}), 1);
  const MemoryPlan four = PlanMemory(Small({}), 4);
  EXPECT_EQ(four.moments * 4, one.moments);
  EXPECT_EQ(four.master_weights * 4, one.master_weights);
  EXPECT_EQ(four.gradients, one.gradients);
}

TEST_F(MemoryPlanTest, WhatDoesNotFitIsRefusedWithTheTable) {
  const MemoryPlan plan = PlanMemory(Small({}), 1);
  GpuInfo gpu = {.name = "a small GPU", .total_bytes = plan.Total(), .free_bytes = plan.Total()};
  CheckFits(plan, gpu);
  gpu.free_bytes -= 1;
  try {
    CheckFits(plan, gpu);
    FAIL() << "a byte is missing";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    const std::string message = error.what();
    for (const char* part : {"a small GPU",
                             "moments",
                             "activations",
                             "training.micro_batch_size",
                             "training.sequence_length",
                             "training.recompute"}) {
      EXPECT_NE(message.find(part), std::string::npos) << part;
    }
  }
}

}  // namespace
}  // namespace ksa
