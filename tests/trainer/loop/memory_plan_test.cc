// The plan of a GPU run's memory, which needs neither a GPU nor a build for one.
#include "trainer/loop/memory_plan.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/tokenizers/tokenizer.h"
#include "parallel/comm/communicator.h"
#include "tests/data/support.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/validation.h"
#include "trainer/loop/trainer.h"
#include "trainer/step/training_state.h"

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

Batch BatchOf(const Config& config) {
  Batch batch;
  batch.samples = static_cast<int32_t>(config.training.global_batch_size);
  batch.sequence_length = config.training.sequence_length;
  batch.inputs.resize(static_cast<size_t>(batch.samples) * static_cast<size_t>(batch.sequence_length));
  batch.targets.resize(batch.inputs.size());
  return batch;
}

TEST(MemoryPlan, StateIsWhatTheParametersTake) {
  const MemoryPlan plan = PlanMemory(Small({}));
  EXPECT_EQ(plan.gradients, 2 * plan.weights);
  EXPECT_EQ(plan.master_weights, 2 * plan.weights);
  EXPECT_EQ(plan.moments, 4 * plan.weights);
  EXPECT_GT(plan.activations, 0);
  EXPECT_GE(plan.unused, 0);
}

TEST(MemoryPlan, ActivationsGrowWithTheMicroBatchAndShrinkWithRecompute) {
  const auto activations = [](const std::vector<std::string>& sets) { return PlanMemory(Small(sets)).activations; };
  const int64_t two = activations({});
  EXPECT_GT(activations({"training.micro_batch_size=4"}), two * 3 / 2);
  EXPECT_LT(activations({"training.recompute=mlp"}), two);
  EXPECT_LT(activations({"training.recompute=block"}), activations({"training.recompute=mlp"}));
}

// As the trainer runs them, on imaginary memory: what a validation took is back when the next update starts.
TEST(MemoryPlan, ValidationBetweenUpdatesStaysWithinThePlan) {
  const testing::TestFolder folder;
  testing::WriteShards(folder / "v", {{std::vector<int32_t>(2000, 7)}}, *MakeByteTokenizer());
  const std::string source = "=[{path: " + (folder / "v") + "}]";
  const Config config = Small({"data.train" + source, "data.validation" + source});
  const MemoryPlan plan = PlanMemory(config);
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  Runtime runtime(*self, {.device = DeviceKind::kCuda, .dry = true});
  TrainingState state(config.model, config.training, config.optimizer, {}, runtime);
  const Dataset dataset(DatasetConfigOf(config));
  Evaluator evaluator(runtime, state.model, dataset, *config.training.micro_batch_size);
  const Batch batch = BatchOf(config);
  state.updater.Run(batch, 1, 1e-3);
  const int64_t held = runtime.allocator().use().current;
  for (int64_t update = 2; update <= 4; ++update) {
    static_cast<void>(evaluator.RunAll(3, 1.0));  // two samples, and one alone
    EXPECT_EQ(runtime.allocator().use().current, held);
    state.updater.Run(batch, update, 1e-3);
    EXPECT_LE(runtime.arena()->extent(), plan.ArenaBytes());
  }
}

// Updates on imaginary memory, in which the summary rows' own projections fade in, and with another backward pass.
TEST(MemoryPlan, LaterUpdatesStayWithinThePlan) {
  const std::vector<std::string> cases[] = {
      {"model.attention.ksa.anneal={start_step: 2, end_step: 5}"},
      {"model.attention.ksa.anneal={start_step: 3, end_step: 4}", "model.attention.ksa.summary_tokens=4"},
      {"run.deterministic=false", "model.head_dim=128", "model.num_key_value_heads=1", "model.intermediate_size=64"},
      {"model.intermediate_size=0", "training.recompute=block"}};
  for (const std::vector<std::string>& sets : cases) {
    SCOPED_TRACE(sets[0]);
    const Config config = Small(sets);
    const MemoryPlan plan = PlanMemory(config);
    const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
    Runtime runtime(*self, {.device = DeviceKind::kCuda, .deterministic = config.run.deterministic, .dry = true});
    TrainingState state(config.model, config.training, config.optimizer, {}, runtime);
    const Batch batch = BatchOf(config);
    for (int64_t update = 1; update <= 7; ++update) {
      state.updater.Run(batch, update, 1e-3);
    }
    EXPECT_EQ(runtime.arena()->extent(), plan.ArenaBytes());
  }
}

TEST(MemoryPlan, ZeroDividesTheOptimizerState) {
  const MemoryPlan one = PlanMemory(Small({}));
  const MemoryPlan four = PlanMemory(Small({}), 4);
  EXPECT_EQ(four.moments * 4, one.moments);
  EXPECT_EQ(four.master_weights * 4, one.master_weights);
  EXPECT_EQ(four.gradients, one.gradients);
}

TEST(MemoryPlan, WhatDoesNotFitIsRefusedWithTheTable) {
  const MemoryPlan plan = PlanMemory(Small({}));
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
