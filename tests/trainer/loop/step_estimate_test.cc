// Estimates of updates: bytes against what communicators count, times against measured runs.
#include "model/ksa/step_estimate.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "model/ksa/cost.h"
#include "model/ksa/layer_cost.h"
#include "model/ksa/model.h"
#include "parallel/comm/threads.h"
#include "trainer/config/load.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr int64_t kSmallBucket = 2000;

// Odd sizes; layers of every kind, two micro-batches a data rank.
Config Small(const MeshShape& mesh, const std::vector<std::string>& sets) {
  std::vector<std::string> all = sets;
  all.push_back(fmt::format("training.global_batch_size={}", 2 * mesh.data));
  return ParseConfig(
             "run: {name: estimate}\n"
             "model: {vocab_size: 97, hidden_size: 30, intermediate_size: 33, num_hidden_layers: 4,"
             " num_attention_heads: 4, num_key_value_heads: 2, head_dim: 10,"
             " attention: {pattern: [ksa, full, swa, ksa], swa: {window: 11},"
             " ksa: {chunk_size: 4, window_chunks: 2}}}\n"
             "data: {train: [{path: data/a/train}]}\n"
             "training: {sequence_length: 43, global_batch_size: 4, max_steps: 100, precision: fp32}\n"
             "optimizer: {lr: 1e-3}\n",
             "estimate.yaml",
             all)
      .config;
}

StepProblem ProblemOf(const Config& config, const MeshShape& mesh) {
  return {.model = config.model,
          .sequence_length = config.training.sequence_length,
          .micro_batches = static_cast<int32_t>(config.training.global_batch_size / mesh.data),
          .mesh = mesh,
          .sequence_parallel = config.parallel.sequence_parallel,
          .zero = config.parallel.zero == 1,
          .recompute = config.training.recompute,
          .compute = DType::kF32,
          .bucket_elements = kSmallBucket};
}

Batch AnyBatch(const Config& config, int32_t samples) {
  Batch batch;
  batch.samples = samples;
  batch.sequence_length = config.training.sequence_length;
  batch.chunks = (batch.sequence_length + config.model.ChunkSize() - 1) / config.model.ChunkSize();
  for (int32_t i = 0; i < samples * batch.sequence_length; ++i) {
    batch.inputs.push_back(i * 7 % config.model.vocab_size);
    batch.targets.push_back(i * 5 % config.model.vocab_size);
  }
  batch.target_count = samples * batch.sequence_length;
  return batch;
}

void ExpectBytes(const CommCounts& counted, const Traffic& estimated, const std::string& where) {
  for (int kind = 0; kind < kCollectiveKinds; ++kind) {
    const auto i = static_cast<size_t>(kind);
    if (static_cast<CollectiveKind>(kind) != CollectiveKind::kHost) {
      EXPECT_EQ(counted[i].sent, estimated.counts[i].sent) << where << NameOf(static_cast<CollectiveKind>(kind));
      EXPECT_EQ(counted[i].received, estimated.counts[i].received)
          << where << NameOf(static_cast<CollectiveKind>(kind));
    }
  }
}

// An update on ranks that are threads, every rank against its estimate.
void ExpectBytesOf(const MeshShape& mesh_shape, const std::vector<std::string>& sets) {
  const Config config = Small(mesh_shape, sets);
  const StepProblem problem = ProblemOf(config, mesh_shape);
  RunRanks(static_cast<int>(mesh_shape.size()), [&](Communicator& world) {
    RuntimeOptions options = {.threads = 1};
    options.mesh = mesh_shape;
    options.sequence_parallel = config.parallel.sequence_parallel;
    Runtime runtime(world, options);
    const ProcessMesh& mesh = runtime.mesh();
    FlatSharding sharding = ShardingOf(config.parallel, mesh);
    sharding.bucket_elements = mesh.state_group().size() > 1 ? kSmallBucket : INT64_MAX;
    TrainingState state(config.model, config.training, config.optimizer, sharding, runtime);
    state.store.Initialize(7, runtime.stream());
    const std::array<std::pair<TrafficGroup, Communicator*>, 4> groups{
        {{TrafficGroup::kState, &mesh.state_group()},
         {TrafficGroup::kContext, &mesh.group(MeshAxis::kContext)},
         {TrafficGroup::kTensor, &mesh.group(MeshAxis::kTensor)},
         {TrafficGroup::kReplicas, &mesh.replica_group(state.store.replicas())}}};
    for (const auto& [name, group] : groups) {
      group->ResetCounts();
    }
    state.updater.Run(AnyBatch(config, 2), 1, 1e-3);
    const StepEstimate estimate =
        EstimateRank(problem, H200Figures(), mesh.Rank(MeshAxis::kContext), mesh.Rank(MeshAxis::kTensor));
    for (const auto& [name, group] : groups) {
      ExpectBytes(group->counts(), estimate.Of(name), fmt::format("rank {}, {}: ", world.rank(), NameOf(name)));
    }
  });
}

TEST(StepEstimate, BytesOfDataRanks) {
  ExpectBytesOf({.data = 2}, {"parallel.data=2"});
  ExpectBytesOf({.data = 3}, {"parallel.data=3", "parallel.zero=0"});
}

TEST(StepEstimate, BytesOfContextRanks) {
  for (const char* recompute : {"none", "attention", "mlp", "block"}) {
    SCOPED_TRACE(recompute);
    ExpectBytesOf({.context = 2}, {"parallel.context=2", std::string("training.recompute=") + recompute});
  }
  ExpectBytesOf({.context = 3}, {"parallel.context=3"});  // heads that do not divide: all layers by keys
}

TEST(StepEstimate, BytesOfTensorRanks) {
  for (const char* rows : {"true", "false"}) {
    for (const char* recompute : {"none", "attention", "mlp", "block"}) {
      SCOPED_TRACE(std::string(rows) + " " + recompute);
      const std::vector<std::string> sets = {"parallel.tensor=2",
                                             std::string("parallel.sequence_parallel=") + rows,
                                             std::string("training.recompute=") + recompute};
      ExpectBytesOf({.tensor = 2}, sets);
    }
  }
  ExpectBytesOf({.tensor = 4}, {"parallel.tensor=4", "parallel.sequence_parallel=true"});  // shared key/value heads
}

TEST(StepEstimate, BytesWithoutMlp) {
  for (const char* recompute : {"none", "attention", "block"}) {
    SCOPED_TRACE(recompute);
    std::vector<std::string> sets = {"model.intermediate_size=0", std::string("training.recompute=") + recompute};
    sets.insert(sets.end(), {"parallel.tensor=2", "parallel.sequence_parallel=false"});
    ExpectBytesOf({.tensor = 2}, sets);
    sets.insert(sets.end(), {"parallel.context=2", "parallel.sequence_parallel=true"});
    ExpectBytesOf({.context = 2, .tensor = 2}, sets);
  }
}

TEST(StepEstimate, BytesOfWholeMeshes) {
  ExpectBytesOf({.data = 2, .context = 2, .tensor = 2},
                {"parallel.context=2", "parallel.tensor=2", "parallel.sequence_parallel=true"});
  ExpectBytesOf(
      {.data = 1, .context = 2, .tensor = 4},
      {"parallel.context=2", "parallel.tensor=4", "parallel.sequence_parallel=false", "training.recompute=block"});
}

StepProblem Large(int32_t length, const MeshShape& mesh, int32_t micro_batches = 1) {
  StepProblem problem;
  problem.model = LoadModelConfig("configs/model/ksa_1b9.yaml", length);
  problem.sequence_length = length;
  problem.micro_batches = micro_batches;
  problem.mesh = mesh;
  problem.sequence_parallel = mesh.tensor > 1;
  return problem;
}

double Milliseconds(const StepProblem& problem, const DeviceFigures& figures = H200Figures()) {
  return 1e3 * EstimateStep(problem, figures).Step();
}

void ExpectNear(double estimated, double measured) {
  EXPECT_NEAR(estimated / measured, 1.0, 0.1);
}

// Milliseconds an update, medians, NVIDIA H200 (700 W), bf16. The figures of the device come from one GPU and from
// `ksa bench comm`, not from the runs on two.
TEST(StepEstimate, AsMeasuredOnOneGpu) {
  ExpectNear(Milliseconds(Large(8192, {})), 193.9);
  ExpectNear(Milliseconds(Large(8192, {}, 2)), 370.8);
  ExpectNear(Milliseconds(Large(32768, {})), 787.3);
  StepProblem recomputed = Large(131072, {});
  recomputed.recompute = Recompute::kBlock;
  ExpectNear(Milliseconds(recomputed), 4878.9);
}

TEST(StepEstimate, AsMeasuredOnTwoGpus) {
  ExpectNear(Milliseconds(Large(8192, {.data = 2}, 2)), 383.8);
  StepProblem recomputed = Large(131072, {.context = 2});
  recomputed.recompute = Recompute::kBlock;
  ExpectNear(Milliseconds(recomputed), 2536.2);
  // These calls took the host 75 us each.
  DeviceFigures slow_calls = H200Figures();
  slow_calls.call_seconds += 75e-6;
  ExpectNear(Milliseconds(Large(8192, {.tensor = 2}), slow_calls), 120.4);
}

// The parts of a layer are those that the cost model counts.
TEST(StepEstimate, ProductsAreThoseOfTheCostModel) {
  const Config config = Small({}, {});
  const SummaryLayout layout = MakeLayout(config.model, 2, config.training.sequence_length);
  DeviceFigures unit = H200Figures();
  unit.product_flops = 1.0;
  double products = 0.0;
  for (int32_t layer = 0; layer < config.model.num_hidden_layers; ++layer) {
    products += CostOfLayer(config.model, layout, layer, unit, 2, 1).Products();
  }
  const ForwardFlops flops = CountForwardFlops(config.model, layout);
  EXPECT_DOUBLE_EQ(products, flops.linear + flops.summary_linear);
}

TEST(StepEstimate, FasterDevicesAndMoreRanksTakeLessTime) {
  const StepProblem problem = Large(131072, {.context = 8});
  const double step = Milliseconds(problem);
  for (double DeviceFigures::*const figure : {&DeviceFigures::product_flops,
                                              &DeviceFigures::attention_forward_flops,
                                              &DeviceFigures::attention_backward_flops,
                                              &DeviceFigures::row_bytes,
                                              &DeviceFigures::stream_bytes,
                                              &DeviceFigures::reduce_scatter_bytes,
                                              &DeviceFigures::all_gather_bytes,
                                              &DeviceFigures::exchange_bytes}) {
    DeviceFigures faster = H200Figures();
    faster.*figure *= 2.0;
    EXPECT_LT(Milliseconds(problem, faster), step);
  }
  EXPECT_LT(step, Milliseconds(Large(131072, {.context = 4})));
  EXPECT_LT(Milliseconds(Large(131072, {.context = 16})), step);
  EXPECT_LT(step, Milliseconds(Large(131072, {.context = 8}, 2)));
  StepProblem recomputed = problem;
  recomputed.recompute = Recompute::kBlock;
  EXPECT_LT(step, Milliseconds(recomputed));
}

}  // namespace
}  // namespace ksa
