// Updates of ranks with a GPU each, on meshes with several groups: they ask NCCL for their collectives in one order.
// Each mesh needs as many GPUs as it has ranks.
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "parallel/comm/nccl.h"
#include "parallel/comm/threads.h"
#include "tests/gpu/ranks_on_gpus.h"
#include "tests/support/place.h"
#include "tests/support/recorded_group.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {
namespace {

constexpr int64_t kSamples = 4;
constexpr int32_t kTokens = 300;

Config ConfigOf(const MeshShape& mesh) {
  const std::string text = fmt::format(
      "run: {{name: gpu}}\n"
      "model: {{vocab_size: 257, hidden_size: 128, intermediate_size: 208, num_hidden_layers: 4,"
      " num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64, initializer_range: fan_in,"
      " attention: {{pattern: [ksa, full, ksa, full], ksa: {{chunk_size: 8, window_chunks: 3}}}}}}\n"
      "data: {{train: [{{path: data/a/train}}]}}\n"
      "training: {{sequence_length: {}, global_batch_size: {}, max_steps: 100, precision: bf16}}\n"
      "parallel: {{tensor: {}, context: {}}}\n"
      "optimizer: {{lr: 1e-3}}\n",
      kTokens,
      kSamples,
      mesh.tensor,
      mesh.context);
  return ParseConfig(text, "order_test.yaml", {}).config;
}

Batch SamplesOf(const Config& config, int64_t first, int64_t count) {
  Batch batch;
  batch.samples = static_cast<int32_t>(count);
  batch.sequence_length = kTokens;
  batch.chunks = (kTokens + config.model.ChunkSize() - 1) / config.model.ChunkSize();
  GuardAllocator memory;
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Tensor text = Integers(fmt::format("sample {}", sample), {kTokens + 1}, 0, config.model.vocab_size, memory);
    const int32_t* ids = text.As<int32_t>();
    batch.inputs.insert(batch.inputs.end(), ids, ids + kTokens);
    batch.targets.insert(batch.targets.end(), ids + 1, ids + kTokens + 1);
  }
  batch.target_count = static_cast<int64_t>(batch.targets.size());
  return batch;
}

void Train(Communicator& world, const MeshShape& mesh, std::vector<QueuedCall>& calls) {
  const Config config = ConfigOf(mesh);
  constexpr int64_t kMemory = int64_t{2} << 30;
  Runtime runtime(world,
                  {.device = DeviceKind::kCuda,
                   .mesh = mesh,
                   .sequence_parallel = mesh.tensor > 1,
                   .ordinal = world.rank(),
                   .device_bytes = kMemory,
                   .watch_group = RecordInto(calls, world.rank())});
  FlatSharding sharding = ShardingOf(config.parallel, runtime.mesh());
  sharding.bucket_elements = 20000;  // several a layer
  TrainingState state(config.model, config.training, config.optimizer, sharding, runtime);
  state.store.Initialize(5, runtime.stream());
  const int64_t count = kSamples / mesh.data;
  const int64_t first = runtime.mesh().Rank(MeshAxis::kData) * count;
  for (int64_t update = 1; update <= 3; ++update) {
    EXPECT_TRUE(state.updater.Run(SamplesOf(config, first, count), update, config.optimizer.lr).finite);
  }
  world.Barrier();  // nobody frees memory while another's kernels may run
}

class GpuOrderTest : public ::testing::TestWithParam<MeshShape> {};

TEST_P(GpuOrderTest, RanksAskForCollectivesInOneOrder) {
  const MeshShape mesh = GetParam();
  const auto ranks = static_cast<int>(mesh.size());
  if (const std::string why = WhyNotOnGpus(ranks); !why.empty()) {
    GTEST_SKIP() << why;
  }
  std::vector<std::vector<QueuedCall>> calls(static_cast<size_t>(ranks));
  RunRanks(ranks, [&](Communicator& world) { Train(world, mesh, calls[static_cast<size_t>(world.rank())]); });
  std::set<std::string> groups;
  for (const QueuedCall& call : calls[0]) {
    groups.insert(call.group);
  }
  EXPECT_GE(groups.size(), mesh.data > 1 && mesh.context * mesh.tensor == 1 ? 1U : 2U);
  EXPECT_EQ(WhyNotOneOrder(calls), "");
  for (size_t i = 0; i < calls[0].size() / 3; ++i) {
    fmt::print("{:4} {}\n", i, ToString(calls[0][i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Meshes,
                         GpuOrderTest,
                         ::testing::Values(MeshShape{.context = 2},
                                           MeshShape{.data = 2, .tensor = 2},
                                           MeshShape{.context = 2, .tensor = 2},
                                           MeshShape{.data = 2, .context = 2},
                                           MeshShape{.data = 2, .context = 2, .tensor = 2}),
                         [](const auto& mesh) {
                           return fmt::format("{}x{}x{}", mesh.param.data, mesh.param.context, mesh.param.tensor);
                         });

}  // namespace
}  // namespace ksa::testing
