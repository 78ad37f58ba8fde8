// Whole updates on data ranks, threads of this process, against one rank.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "parallel/comm/threads.h"
#include "trainer/config/load.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr int64_t kUpdates = 5;
constexpr double kLearningRate = 3e-3;

// Odd sizes; `tied`: one table for both ends of the model.
Config Small(bool tied) {
  return ParseConfig(
             "run: {name: data}\n"
             "model: {vocab_size: 97, hidden_size: 30, intermediate_size: 33, num_hidden_layers: 3,"
             " num_attention_heads: 3, num_key_value_heads: 3, head_dim: 10,"
             " attention: {pattern: [ksa, full, ksa], ksa: {chunk_size: 4, window_chunks: 2}}}\n"
             "data: {train: [{path: data/a/train}]}\n"
             "training: {sequence_length: 27, global_batch_size: 4, max_steps: 100, precision: fp64}\n"
             "optimizer: {lr: 1e-3, clip_grad_norm: 0.5}\n",
             "data.yaml",
             {std::string("model.tie_word_embeddings=") + (tied ? "true" : "false")})
      .config;
}

// The samples [first, first + count) of an update; ranks have different numbers of targets.
Batch SamplesOf(const Config& config, int64_t update, int64_t first, int64_t count) {
  Batch batch;
  batch.samples = static_cast<int32_t>(count);
  batch.sequence_length = config.training.sequence_length;
  batch.chunks = (batch.sequence_length + config.model.ChunkSize() - 1) / config.model.ChunkSize();
  const uint64_t key = NamedKey(static_cast<uint64_t>(update), "tokens");
  for (int64_t sample = first; sample < first + count; ++sample) {
    const auto token = [&](int64_t i) {
      const uint32_t bits = Philox4x32(key, static_cast<uint64_t>(sample * (batch.sequence_length + 1) + i))[0];
      return static_cast<int32_t>(bits % static_cast<uint32_t>(config.model.vocab_size));
    };
    for (int64_t i = 0; i < batch.sequence_length; ++i) {
      batch.inputs.push_back(token(i));
      const bool target = i % (sample + 2) != 0;
      batch.targets.push_back(target ? token(i + 1) : Batch::kNoTarget);
      batch.target_count += target ? 1 : 0;
    }
  }
  return batch;
}

struct Layout {
  int ranks = 1;
  int32_t zero = 0;
  int64_t bucket_elements = INT64_MAX;
  int32_t micro_batch = 1;
  Recompute recompute = Recompute::kNone;

  [[nodiscard]] std::string ToString() const {
    return fmt::format("{} ranks, ZeRO {}, buckets of {}, micro-batches of {}, recompute {}",
                       ranks,
                       zero,
                       bucket_elements,
                       micro_batch,
                       static_cast<int>(recompute));
  }
};

struct RunResult {
  std::vector<double> losses;
  std::vector<double> norms;
  std::map<std::string, std::vector<double>> weights;
  CommCounts counts{};  // of the state group, in the last update
  size_t buckets = 0;
};

std::map<std::string, std::vector<double>> WeightsOf(const ParameterStore& store) {
  std::map<std::string, std::vector<double>> weights;
  for (const Parameter& parameter : store.parameters()) {
    const double* values = parameter.value.As<double>();
    weights[parameter.spec.name].assign(values, values + parameter.value.size());
  }
  return weights;
}

// By rank.
std::vector<RunResult> RunOn(Config config, const Layout& layout) {
  config.training.micro_batch_size = layout.micro_batch;
  config.training.recompute = layout.recompute;
  config.parallel.zero = layout.zero;
  std::vector<RunResult> results(static_cast<size_t>(layout.ranks));
  RunRanks(layout.ranks, [&](Communicator& world) {
    Runtime runtime(world, {.threads = 1});
    FlatSharding sharding = ShardingOf(config.parallel, runtime.mesh());
    sharding.bucket_elements = layout.bucket_elements;
    TrainingState state(config.model, config.training, config.optimizer, sharding, runtime);
    state.store.Initialize(7, runtime.stream());
    RunResult& result = results[static_cast<size_t>(world.rank())];
    const int64_t samples = config.training.global_batch_size / layout.ranks;
    for (int64_t update = 1; update <= kUpdates; ++update) {
      runtime.mesh().state_group().ResetCounts();
      const Batch batch = SamplesOf(config, update, world.rank() * samples, samples);
      const UpdateOutcome outcome = state.updater.Run(batch, update, kLearningRate);
      EXPECT_TRUE(outcome.finite);
      result.losses.push_back(outcome.loss);
      result.norms.push_back(outcome.grad_norm);
    }
    result.counts = runtime.mesh().state_group().counts();
    result.buckets = state.store.buckets().size();
    result.weights = WeightsOf(state.store);
  });
  return results;
}

void ExpectNear(const std::vector<double>& values, const std::vector<double>& expected, double bound) {
  ASSERT_EQ(values.size(), expected.size());
  double scale = 0.0;
  for (const double x : expected) {
    scale = std::max(scale, std::abs(x));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_LE(std::abs(values[i] - expected[i]), bound * scale) << i;
  }
}

std::vector<Layout> Layouts() {
  std::vector<Layout> layouts;
  for (const int ranks : {1, 2, 4}) {
    for (const int32_t zero : {0, 1}) {
      for (const int64_t bucket : {int64_t{1}, int64_t{2500}, INT64_MAX}) {
        layouts.push_back({ranks, zero, bucket, 1, Recompute::kNone});
      }
      layouts.push_back({ranks, zero, 700, std::max(1, 4 / ranks), Recompute::kNone});
      layouts.push_back({ranks, zero, 700, 1, Recompute::kBlock});
      layouts.push_back({ranks, zero, 700, 1, Recompute::kAttention});
    }
  }
  return layouts;
}

TEST(DataParallelTest, FiveUpdatesAreThoseOfOneRank) {
  for (const bool tied : {false, true}) {
    const Config config = Small(tied);
    const RunResult expected = RunOn(config, {}).front();
    EXPECT_GT(*std::min_element(expected.norms.begin(), expected.norms.end()), config.optimizer.clip_grad_norm)
        << "every update is clipped";
    for (const Layout& layout : Layouts()) {
      SCOPED_TRACE(layout.ToString());
      const std::vector<RunResult> results = RunOn(config, layout);
      for (const RunResult& result : results) {
        ExpectNear(result.losses, expected.losses, 1e-12);
        ExpectNear(result.norms, expected.norms, 1e-11);
        EXPECT_EQ(result.losses, results.front().losses);
        EXPECT_EQ(result.norms, results.front().norms);
        EXPECT_EQ(result.weights, results.front().weights) << "ranks hold other weights";
        for (const auto& [name, values] : expected.weights) {
          SCOPED_TRACE(name);
          ExpectNear(result.weights.at(name), values, 1e-11);
        }
      }
    }
  }
}

// However many micro-batches an update has.
TEST(DataParallelTest, EveryBucketIsSummedOnceAnUpdate) {
  const Config config = Small(false);
  for (const int32_t zero : {0, 1}) {
    for (const int32_t micro_batch : {1, 2}) {
      const RunResult result = RunOn(config, {2, zero, 700, micro_batch, Recompute::kNone}).front();
      SCOPED_TRACE(::testing::Message() << "ZeRO " << zero << ", micro-batches of " << micro_batch);
      EXPECT_GT(result.buckets, 10U);
      const auto calls = [&](CollectiveKind kind) { return result.counts[static_cast<size_t>(kind)].calls; };
      const auto buckets = static_cast<int64_t>(result.buckets);
      EXPECT_EQ(calls(CollectiveKind::kReduceScatter), zero == 1 ? buckets : 0);
      EXPECT_EQ(calls(CollectiveKind::kAllGather), 1 + (zero == 1 ? buckets : 0)) << "and the largest values";
      EXPECT_EQ(calls(CollectiveKind::kAllReduce), 1 + (zero == 1 ? 0 : buckets)) << "and loss and norm";
    }
  }
}

// Layouts of the same ranks differ in when sums are made and who updates, not in any sum.
TEST(DataParallelTest, RecomputeAndZeroChangeNoBit) {
  const Config config = Small(true);
  const RunResult expected = RunOn(config, {4, 0, 700, 1, Recompute::kNone}).front();
  for (const int32_t zero : {0, 1}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kMlp, Recompute::kBlock}) {
      const RunResult result = RunOn(config, {4, zero, 700, 1, recompute}).front();
      EXPECT_EQ(result.losses, expected.losses);
      EXPECT_EQ(result.norms, expected.norms);
      EXPECT_EQ(result.weights, expected.weights);
    }
  }
}

// Of the last micro-batch alone, from its layers' ends: sums start before backward has ended.
TEST(DataParallelTest, SumsStartDuringBackwardAndHaveTheSameBitsAfterIt) {
  const Config config = Small(false);
  RunRanks(2, [&](Communicator& world) {
    std::vector<std::map<std::string, std::vector<double>>> weights;
    for (const bool overlap : {false, true}) {
      Runtime runtime(world, {.threads = 1});
      FlatSharding sharding = ShardingOf(config.parallel, runtime.mesh());
      sharding.bucket_elements = 700;
      TrainingState state(config.model, config.training, config.optimizer, sharding, runtime);
      state.store.Initialize(7, runtime.stream());
      const Batch batch = SamplesOf(config, 1, world.rank(), 1);
      Tape tape;
      ExecContext cx = runtime.Context();
      cx.tape = &tape;
      BatchUpload upload;
      upload.Load(cx, config.model, batch);
      const MicroBatch micro = upload.Slice(0, 1);
      state.optimizer.BeginUpdate(runtime.stream());
      runtime.mesh().state_group().ResetCounts();
      const auto sums = [&] {
        return runtime.mesh().state_group().counts()[static_cast<size_t>(CollectiveKind::kReduceScatter)].calls;
      };
      KsaModel::Input input = {.ids = micro.ids, .layout = micro.layout};
      std::vector<int64_t> after;  // sums after each milestone
      if (overlap) {
        input.on_gradients = [&](int32_t layer) {
          state.optimizer.OnGradients(layer, runtime.stream());
          after.push_back(sums());
        };
      }
      const Var hidden = state.model.Hidden(cx, input);
      const CrossEntropyResult loss = state.model.Loss(cx, hidden, micro.targets, 1e-2, state.optimizer.loss_sum());
      tape.Backward(cx, loss.loss_sum, Tensor());
      EXPECT_EQ(after.size(), overlap ? 4U : 0U);
      for (size_t i = 1; i < after.size(); ++i) {
        EXPECT_GT(after[i], after[i - 1]) << "a layer has buckets of its own";
      }
      EXPECT_EQ(sums(), overlap ? after.back() : 0);
      EXPECT_TRUE(state.optimizer.Step(kLearningRate, 1, runtime.stream()).applied);
      weights.push_back(WeightsOf(state.store));
    }
    EXPECT_EQ(weights.front(), weights.back());
  });
}

}  // namespace
}  // namespace ksa
