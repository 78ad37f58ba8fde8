// Runs on imaginary memory and ranks: what they say that an update moves, computes and takes, against counters of real
// updates, formulas and measured runs.
#include "trainer/loop/imaginary_run.h"

#include <array>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "model/ksa/cost.h"
#include "model/ksa/model.h"
#include "parallel/comm/threads.h"
#include "trainer/config/load.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

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

void ExpectBytes(const CommCounts& actual, const CommCounts& expected, const std::string& where) {
  for (int kind = 0; kind < kCollectiveKinds; ++kind) {
    const auto i = static_cast<size_t>(kind);
    if (static_cast<CollectiveKind>(kind) != CollectiveKind::kHost) {
      EXPECT_EQ(actual[i].sent, expected[i].sent) << where << NameOf(static_cast<CollectiveKind>(kind));
      EXPECT_EQ(actual[i].received, expected[i].received) << where << NameOf(static_cast<CollectiveKind>(kind));
    }
  }
}

// An update on ranks that are threads, every rank against its imaginary run.
void ExpectBytesOf(const MeshShape& mesh_shape, const std::vector<std::string>& sets) {
  const Config config = Small(mesh_shape, sets);
  const auto ranks = static_cast<int>(mesh_shape.size());
  RunRanks(ranks, [&](Communicator& world) {
    RuntimeOptions options = {.threads = 1};
    options.mesh = mesh_shape;
    options.sequence_parallel = config.parallel.sequence_parallel;
    Runtime runtime(world, options);
    const ProcessMesh& mesh = runtime.mesh();
    TrainingState state(config.model, config.training, config.optimizer, ShardingOf(config.parallel, mesh), runtime);
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
    const StepCounts counts = Imagine(config, {.ranks = ranks, .rank = world.rank()}).Counts();
    for (const auto& [name, group] : groups) {
      const std::string where = fmt::format("rank {}, {}: ", world.rank(), NameOf(name));
      ExpectBytes(counts.Of(name), group->counts(), where);
    }
  });
}

TEST(ImaginaryRun, BytesOfDataRanks) {
  ExpectBytesOf({.data = 2}, {"parallel.data=2"});
  ExpectBytesOf({.data = 3}, {"parallel.data=3", "parallel.zero=0"});
}

TEST(ImaginaryRun, BytesOfContextRanks) {
  for (const char* recompute : {"none", "attention", "mlp", "block"}) {
    SCOPED_TRACE(recompute);
    ExpectBytesOf({.context = 2}, {"parallel.context=2", std::string("training.recompute=") + recompute});
  }
  ExpectBytesOf({.context = 3}, {"parallel.context=3"});  // heads that do not divide: all layers by keys
}

TEST(ImaginaryRun, BytesOfTensorRanks) {
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

TEST(ImaginaryRun, BytesWithoutMlp) {
  for (const char* recompute : {"none", "attention", "block"}) {
    SCOPED_TRACE(recompute);
    std::vector<std::string> sets = {"model.intermediate_size=0", std::string("training.recompute=") + recompute};
    sets.insert(sets.end(), {"parallel.tensor=2", "parallel.sequence_parallel=false"});
    ExpectBytesOf({.tensor = 2}, sets);
    sets.insert(sets.end(), {"parallel.context=2", "parallel.sequence_parallel=true"});
    ExpectBytesOf({.context = 2, .tensor = 2}, sets);
  }
}

TEST(ImaginaryRun, BytesOfWholeMeshes) {
  ExpectBytesOf({.data = 2, .context = 2, .tensor = 2},
                {"parallel.context=2", "parallel.tensor=2", "parallel.sequence_parallel=true"});
  ExpectBytesOf(
      {.data = 1, .context = 2, .tensor = 4},
      {"parallel.context=2", "parallel.tensor=4", "parallel.sequence_parallel=false", "training.recompute=block"});
}

// Products that run again for their backward: of a forward pass's, those of all layers without the last one of a block
// (attention's output, or the MLP's).
double Replayed(const ModelConfig& model, const SummaryLayout& layout, Recompute recompute) {
  const double d = model.hidden_size;
  const double q = 2.0 * d * model.num_attention_heads * model.head_dim;
  const double kv = 4.0 * d * model.num_key_value_heads * model.head_dim;
  const double gate_up = 4.0 * d * model.intermediate_size;
  double sum = 0.0;
  for (int32_t layer = 0; layer < model.num_hidden_layers; ++layer) {
    const bool before_last = layer < model.LastKsaLayer();
    const auto text = static_cast<double>(layout.text_rows());
    const auto summaries = static_cast<double>(layout.summary_rows());
    const double queries = text + (before_last ? summaries : 0.0);
    const double keys = text + (layer <= model.LastKsaLayer() ? summaries : 0.0);
    const bool attention = recompute == Recompute::kAttention || recompute == Recompute::kBlock;
    sum += attention ? queries * q + keys * kv : 0.0;
    sum += recompute == Recompute::kBlock ? queries * q : 0.0;
    sum += recompute == Recompute::kBlock || recompute == Recompute::kMlp ? queries * gate_up : 0.0;
  }
  return sum;
}

// An update is three forward passes, whatever runs again, which is done all the same; attention's backward does a
// product more than it needs.
TEST(ImaginaryRun, OperationsAreThoseOfTheModel) {
  for (const char* recompute : {"none", "attention", "mlp", "block"}) {
    SCOPED_TRACE(recompute);
    const Config config = Small({}, {std::string("training.recompute=") + recompute});
    const StepCounts counts = Imagine(config).Counts();
    const SummaryLayout layout = MakeLayout(config.model, 2, config.training.sequence_length);
    const ForwardFlops forward = CountForwardFlops(config.model, layout);
    EXPECT_EQ(static_cast<double>(counts.useful), 3.0 * forward.Total());
    EXPECT_EQ(static_cast<double>(counts.product_done),
              3.0 * (forward.Total() - forward.attention) + Replayed(config.model, layout, config.training.recompute));
    EXPECT_EQ(static_cast<double>(counts.done - counts.product_done), 3.5 * forward.attention);
  }
}

// AdamW reads and writes weights and moments and reads gradients, and the norm reads gradients again. Beside them, the
// log-sum-exps of attention's rows are read for the largest.
TEST(ImaginaryRun, TheOptimizerPassesOverItsState) {
  const Config config = Small({}, {});
  const ImaginaryRun run = Imagine(config);
  const SummaryLayout layout = MakeLayout(config.model, 2, config.training.sequence_length);
  int64_t rows = 0;
  for (int32_t layer = 0; layer < config.model.num_hidden_layers; ++layer) {
    const bool attend = config.model.SummariesAttend(layer) && layer < config.model.LastKsaLayer();
    rows += layout.text_rows() + (attend ? layout.summary_rows() : 0);
  }
  const int64_t largest = rows * config.model.num_attention_heads * SizeOf(DType::kF32);
  EXPECT_EQ(run.Counts().stream_bytes, 8 * run.memory.gradients + largest);
}

Config Large(int32_t length, const MeshShape& mesh, int32_t micro_batches, const std::vector<std::string>& sets = {}) {
  Config config;
  config.model = LoadModelConfig("configs/model/ksa_1b9.yaml", length, sets);
  config.training = {.sequence_length = length,
                     .global_batch_size = static_cast<int32_t>(mesh.data * micro_batches),
                     .max_steps = 100,
                     .precision = DType::kBF16};
  config.optimizer.lr = 1e-3;
  config.parallel.context = static_cast<int32_t>(mesh.context);
  config.parallel.tensor = static_cast<int32_t>(mesh.tensor);
  config.parallel.data = static_cast<int32_t>(mesh.data);
  config.parallel.sequence_parallel = mesh.tensor > 1;
  return config;
}

double Milliseconds(const Config& config, const DeviceFigures& figures = H200Figures()) {
  const int ranks = config.parallel.context * config.parallel.tensor * config.parallel.data.value_or(1);
  double slowest = 0.0;
  for (int rank = 0; rank < config.parallel.context * config.parallel.tensor; ++rank) {
    slowest = std::max(slowest, 1e3 * Imagine(config, {.ranks = ranks, .rank = rank}).Seconds(figures).Total());
  }
  return slowest;
}

// Within 10 % of what was measured, and in the table of docs/scaling.md.
void ExpectRow(const char* update, double estimated, double measured) {
  EXPECT_NEAR(estimated / measured, 1.0, 0.1) << update;
  const double percent = 100.0 * (estimated / measured - 1.0);
  const std::string row = fmt::format("| {} | {:.1f} | {:.1f} | {:+.1f} % |\n", update, estimated, measured, percent);
  std::stringstream text;
  text << std::ifstream("docs/scaling.md").rdbuf();
  EXPECT_NE(text.str().find(row), std::string::npos) << "docs/scaling.md should hold:\n" << row;
}

// Milliseconds an update, medians, NVIDIA H200 (700 W), bf16. The figures of the device come from one GPU and from
// `ksa bench comm`, not from the runs on two.
TEST(ImaginaryRun, AsMeasuredOnOneGpu) {
  ExpectRow("8K, one GPU", Milliseconds(Large(8192, {}, 1)), 193.9);
  ExpectRow("8K, one GPU, two micro-batches", Milliseconds(Large(8192, {}, 2)), 370.8);
  ExpectRow("32K, one GPU", Milliseconds(Large(32768, {}, 1)), 787.3);
  Config recomputed = Large(131072, {}, 1);
  recomputed.training.recompute = Recompute::kBlock;
  ExpectRow("128K, one GPU, recompute of blocks", Milliseconds(recomputed), 4878.9);
}

TEST(ImaginaryRun, AsMeasuredOnTwoGpus) {
  ExpectRow("8K, 2 data ranks with ZeRO-1, two micro-batches", Milliseconds(Large(8192, {.data = 2}, 2)), 383.8);
  Config recomputed = Large(131072, {.context = 2}, 1);
  recomputed.training.recompute = Recompute::kBlock;
  ExpectRow("128K, 2 context ranks, recompute of blocks", Milliseconds(recomputed), 2536.2);
  // These calls took the host 75 us each.
  DeviceFigures slow_calls = H200Figures();
  slow_calls.call_seconds += 75e-6;
  ExpectRow("8K, 2 tensor ranks, each call taking the host 75 us",
            Milliseconds(Large(8192, {.tensor = 2}, 1), slow_calls),
            120.4);
}

TEST(ImaginaryRun, FasterDevicesAndMoreRanksTakeLessTime) {
  const double step = Milliseconds(Large(131072, {.context = 8}, 1));
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
    EXPECT_LT(Milliseconds(Large(131072, {.context = 8}, 1), faster), step);
  }
  EXPECT_LT(step, Milliseconds(Large(131072, {.context = 4}, 1)));
  EXPECT_LT(Milliseconds(Large(131072, {.context = 16}, 1)), step);
  EXPECT_LT(step, Milliseconds(Large(131072, {.context = 8}, 2)));
  Config recomputed = Large(131072, {.context = 8}, 1);
  recomputed.training.recompute = Recompute::kBlock;
  EXPECT_LT(step, Milliseconds(recomputed));
}

// Three micro-batches stand for all.
TEST(ImaginaryRun, ThreeMicroBatchesStandForAll) {
  for (const int32_t micro_batches : {1, 2, 3, 7}) {
    SCOPED_TRACE(micro_batches);
    const Config config = Large(8192, {.data = 2}, micro_batches);
    const ImaginaryRun all = Imagine(config, {.ranks = 2});
    const ImaginaryRun three = Imagine(config, {.ranks = 2, .three_micro_batches = true});
    EXPECT_EQ(three.micro_batches, micro_batches);
    EXPECT_EQ(three.Counts().done, all.Counts().done);
    EXPECT_EQ(three.Counts().bytes, all.Counts().bytes);
    EXPECT_DOUBLE_EQ(three.Seconds(H200Figures()).Total(), all.Seconds(H200Figures()).Total());
    EXPECT_NEAR(three.memory.ArenaBytes(), all.memory.ArenaBytes(), 512);
  }
}

// Of every operation there is a count: none stays silent that takes time.
TEST(ImaginaryRun, EveryOperationSaysWhatItDoes) {
  const Config config = Small({}, {"training.recompute=block"});
  const ImaginaryRun run = Imagine(config);
  std::map<std::string, int64_t> bytes;  // of all calls: one may be of no rows
  for (const StepEvent& event : run.log->events()) {
    if (event.type == StepEvent::Type::kWork && std::string(event.op) != "upload batch") {
      EXPECT_NE(event.work.kind, WorkKind::kNone) << event.op;
      bytes[event.op] += event.work.bytes;
    }
  }
  for (const auto& [op, moved] : bytes) {
    EXPECT_GT(moved, 0) << op;
  }
}

}  // namespace
}  // namespace ksa
