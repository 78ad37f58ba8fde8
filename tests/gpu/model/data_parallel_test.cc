// Updates of two data ranks, a GPU and a thread each: near those of one GPU, and with the same bits whenever sums
// start, whoever updates, and every time. Two numbers have one sum.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "parallel/comm/nccl.h"
#include "parallel/comm/threads.h"
#include "tests/gpu/ranks_on_gpus.h"
#include "tests/support/place.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {
namespace {

constexpr int kRanks = 2;
constexpr int64_t kUpdates = 4;
constexpr int64_t kTinyBuckets = 20000;  // several a layer
constexpr double kClips = 0.5;
constexpr double kNeverClips = 1e9;

Config ConfigOf(DType dtype, int32_t zero, int32_t micro_batch, double clip) {
  Config config = ParseConfig(
                      "run: {name: gpu}\n"
                      "model: {vocab_size: 257, hidden_size: 128, intermediate_size: 208, num_hidden_layers: 4,"
                      " num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64, initializer_range: fan_in,"
                      " attention: {pattern: [ksa, full, ksa, full], ksa: {chunk_size: 8, window_chunks: 3}}}\n"
                      "data: {train: [{path: data/a/train}]}\n"
                      "training: {sequence_length: 301, global_batch_size: 4, max_steps: 100}\n"
                      "optimizer: {lr: 1e-3}\n",
                      "data_parallel_test.yaml",
                      {})
                      .config;
  config.training.precision = dtype;
  config.training.micro_batch_size = micro_batch;
  config.parallel.zero = zero;
  config.optimizer.clip_grad_norm = clip;
  return config;
}

// The samples [first, first + count) of an update.
Batch SamplesOf(const Config& config, int64_t update, int64_t first, int64_t count) {
  Batch batch;
  batch.samples = static_cast<int32_t>(count);
  batch.sequence_length = config.training.sequence_length;
  batch.chunks = (batch.sequence_length + config.model.ChunkSize() - 1) / config.model.ChunkSize();
  GuardAllocator memory;
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Tensor text = Integers(fmt::format("update {} sample {}", update, sample),
                                 {batch.sequence_length + 1},
                                 0,
                                 config.model.vocab_size,
                                 memory);
    const int32_t* ids = text.As<int32_t>();
    batch.inputs.insert(batch.inputs.end(), ids, ids + batch.sequence_length);
    batch.targets.insert(batch.targets.end(), ids + 1, ids + batch.sequence_length + 1);
  }
  batch.target_count = static_cast<int64_t>(batch.targets.size());
  return batch;
}

struct RunResult {
  std::vector<double> losses;  // loss and norm of every update
  std::vector<char> weights;
  double comm_ms = 0.0;
  int64_t beyond_plan = 0;  // bytes of the arena
  int64_t libraries = 0;    // bytes outside of it
};

// As rank `world.rank()`; `bucket_elements` 0: as a run has them.
RunResult RunRank(Communicator& world, const Config& config, int64_t bucket_elements) {
  const MemoryPlan plan = PlanMemory(config, world.size(), world.rank());
  const int64_t free_bytes = QueryGpu(world.rank()).free_bytes;
  world.Barrier();
  Runtime runtime(world,
                  {.device = DeviceKind::kCuda,
                   .ordinal = world.rank(),
                   .device_bytes = plan.ArenaBytes() + (bucket_elements > 0 ? int64_t{1} << 20 : 0)});
  FlatSharding sharding = ShardingOf(config.parallel, runtime.mesh());
  sharding.bucket_elements = bucket_elements > 0 ? bucket_elements : sharding.bucket_elements;
  TrainingState state(config.model, config.training, config.optimizer, sharding, runtime);
  state.store.Initialize(5, runtime.stream());
  RunResult result;
  const int64_t samples = config.training.global_batch_size / world.size();
  for (int64_t update = 1; update <= kUpdates; ++update) {
    const UpdateOutcome outcome =
        state.updater.Run(SamplesOf(config, update, world.rank() * samples, samples), update, config.optimizer.lr);
    EXPECT_TRUE(outcome.finite);
    result.losses.push_back(outcome.loss);
    result.losses.push_back(outcome.grad_norm);
    result.comm_ms += outcome.comm_ms;
  }
  const int64_t reserved = runtime.allocator().reserved_bytes();
  result.libraries = free_bytes - QueryGpu(world.rank()).free_bytes - reserved;
  if (bucket_elements == 0) {
    result.beyond_plan = runtime.arena()->extent() - plan.ArenaBytes();
  }
  // By parameter: how they lie in the flat buffers depends on the buckets.
  for (const Parameter& parameter : state.store.parameters()) {
    const HostCopy copy(parameter.value, runtime.stream());
    const char* data = static_cast<const char*>(copy.view().data);
    result.weights.insert(result.weights.end(), data, data + copy.view().bytes());
  }
  world.Barrier();  // nobody frees memory while another's kernels may run
  return result;
}

std::vector<RunResult> RunOn(int ranks, const Config& config, int64_t bucket_elements) {
  std::vector<RunResult> results(static_cast<size_t>(ranks));
  RunRanks(ranks, [&](Communicator& world) {
    results[static_cast<size_t>(world.rank())] = RunRank(world, config, bucket_elements);
  });
  return results;
}

class GpuDataParallelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotOnGpus(kRanks); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

TEST_F(GpuDataParallelTest, UpdatesAreThoseOfOneGpu) {
  const Config config = ConfigOf(DType::kF32, 1, 1, kClips);
  static_cast<void>(RunOn(1, config, 0));  // loads the code of kernels
  const RunResult alone = RunOn(1, config, 0).front();
  EXPECT_EQ(alone.comm_ms, 0.0);
  for (const RunResult& rank : RunOn(kRanks, config, kTinyBuckets)) {
    ASSERT_EQ(rank.losses.size(), alone.losses.size());
    for (size_t i = 0; i < alone.losses.size(); ++i) {
      EXPECT_NEAR(rank.losses[i], alone.losses[i], 1e-4 * alone.losses[i]) << i;
    }
    EXPECT_GT(rank.comm_ms, 0.0);
    fmt::print("waited for the other rank: {:.3f} ms an update; outside of the arena {} MiB, alone {}\n",
               rank.comm_ms / static_cast<double>(kUpdates),
               rank.libraries >> 20,
               alone.libraries >> 20);
  }
}

// The norm alone is added up in an order that depends on the buckets, so nothing is clipped here.
TEST_F(GpuDataParallelTest, BucketsAndZeroChangeNoBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int32_t micro_batch : {1, 2}) {
      const RunResult expected = RunOn(kRanks, ConfigOf(dtype, 0, micro_batch, kNeverClips), INT64_MAX).front();
      for (const int32_t zero : {0, 1}) {
        for (const int64_t bucket : {int64_t{0}, kTinyBuckets}) {
          SCOPED_TRACE(
              fmt::format("{}, ZeRO {}, micro-batches of {}, buckets of {}", NameOf(dtype), zero, micro_batch, bucket));
          for (const RunResult& rank : RunOn(kRanks, ConfigOf(dtype, zero, micro_batch, kNeverClips), bucket)) {
            for (size_t i = 0; i < expected.losses.size(); i += 2) {
              EXPECT_EQ(rank.losses[i], expected.losses[i]);
              EXPECT_NEAR(rank.losses[i + 1], expected.losses[i + 1], 1e-12 * expected.losses[i + 1]);
            }
            EXPECT_TRUE(rank.weights == expected.weights) << "weights differ";
            EXPECT_EQ(rank.beyond_plan, 0);
          }
        }
      }
    }
  }
}

TEST_F(GpuDataParallelTest, RunsRepeatInBits) {
  const Config config = ConfigOf(DType::kBF16, 1, 1, kClips);
  const std::vector<RunResult> first = RunOn(kRanks, config, kTinyBuckets);
  EXPECT_EQ(first[0].losses, first[1].losses);
  EXPECT_TRUE(first[0].weights == first[1].weights) << "ranks hold other weights";
  for (int again = 0; again < 3; ++again) {
    const std::vector<RunResult> next = RunOn(kRanks, config, kTinyBuckets);
    EXPECT_EQ(next[0].losses, first[0].losses);
    EXPECT_TRUE(next[0].weights == first[0].weights);
  }
}

}  // namespace
}  // namespace ksa::testing
