// The trainer's updates on the GPU: the same bits every time and with every policy of recomputation, within the planned
// memory, and none that is not finite.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "parallel/comm/communicator.h"
#include "tests/support/place.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/async_saver.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/step/runtime.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {
namespace {

struct TrainingCase {
  const char* name;
  std::vector<std::string> sets;
};

const std::vector<TrainingCase>& Cases() {
  static const std::vector<TrainingCase> cases = {
      {"ksa, GQA, m 2", {"model.attention.pattern=[ksa]", "model.attention.ksa.summary_tokens=2"}},
      {"hybrid, attend", {}},
      {"hybrid, attend, head dim 128, fp32", {"model.head_dim=128", "training.precision=fp32"}},
      {"hybrid, bypass", {"model.attention.ksa.full_layers=bypass"}},
      {"hybrid, documents", {"data.document_mask=true"}},
      {"swa, sca, full, tied",
       {"model.attention.pattern=[swa, sca, full, full]",
        "model.tie_word_embeddings=true",
        "model.attention.swa={window: 37}",
        "model.attention.sca={chunk_size: 4, window_chunks: 3}"}},
      {"annealing", {"model.attention.ksa.anneal={start_step: 1, end_step: 5}"}},
      {"a larger head dim, short text", {"model.head_dim=80", "training.sequence_length=19"}},
      {"short convolutions, documents", {"model.attention.short_conv=4", "data.document_mask=true"}},
      {"hca, documents",
       {"model.attention.pattern=[hca, {kind: hca, window_chunks: 1, rope: none}, full, hca]",
        "model.attention.hca={chunk_size: 8, window_chunks: 3, visibility: overlap}",
        "data.document_mask=true"}},
      {"hca, chunks of 12, separate gates",
       {"model.attention.pattern=[hca]", "model.attention.hca={chunk_size: 12, window_chunks: 2, gate: separate}"}},
      {"latents",
       {"model.attention.pattern=[{kind: ksa, projection: mla}, mla]",
        "model.attention.mla={kv_lora_rank: 64, q_lora_rank: 48}"}},
      {"gdn, ksa and full, documents",
       {"model.attention.pattern=[gdn, ksa, gdn, full]",
        "model.attention.ksa.full_layers=bypass",
        "model.attention.gdn={linear_num_key_heads: 2, linear_num_value_heads: 4, linear_key_head_dim: 40, "
        "linear_value_head_dim: 72}",
        "data.document_mask=true"}},
      {"gdn, heads of 128",
       {"model.attention.pattern=[gdn]",
        "model.attention.gdn={linear_num_key_heads: 2, linear_num_value_heads: 2, linear_allow_neg_eigval: true}"}},
  };
  return cases;
}

Config ConfigOf(const TrainingCase& c, Recompute recompute = Recompute::kNone) {
  Config config = ParseConfig(
                      "run: {name: gpu}\n"
                      "model: {vocab_size: 257, hidden_size: 128, intermediate_size: 208, num_hidden_layers: 4,"
                      " num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64, initializer_range: fan_in,"
                      " attention: {pattern: [ksa, full, ksa, full], ksa: {chunk_size: 8, window_chunks: 3}}}\n"
                      "data: {train: [{path: data/a/train}]}\n"
                      "training: {sequence_length: 301, global_batch_size: 4, micro_batch_size: 2, max_steps: 100,"
                      " precision: bf16}\n"
                      "optimizer: {lr: 1e-2}\n",
                      "training_test.yaml",
                      c.sets)
                      .config;
  config.training.recompute = recompute;
  return config;
}

// Documents of nine chunks, the last one with three tokens; behind the last document, padding.
void AddDocuments(const Config& config, Batch& batch) {
  constexpr int32_t kDocument = 9;
  const int32_t k = config.model.ChunkSize();
  for (int32_t s = 0; s < batch.samples; ++s) {
    for (int32_t c = 0; c < batch.chunks; ++c) {
      const bool last_one = c % kDocument == kDocument - 1;
      const bool padding = c == batch.chunks - 1;
      batch.document_first_chunk.push_back(padding ? c : c / kDocument * kDocument);
      batch.chunk_tokens.push_back(padding ? 0 : last_one ? 3 : k);
      const int32_t first = c * k + batch.chunk_tokens.back();
      for (int32_t i = first; i < std::min((c + 1) * k, batch.sequence_length); ++i) {
        batch.inputs[static_cast<size_t>(s * batch.sequence_length + i)] = 0;
        batch.targets[static_cast<size_t>(s * batch.sequence_length + i)] = Batch::kNoTarget;
      }
    }
  }
}

// Samples of an update, of random bytes.
Batch BatchOf(const Config& config, int64_t update) {
  Batch batch;
  batch.samples = static_cast<int32_t>(config.training.global_batch_size);
  batch.sequence_length = config.training.sequence_length;
  const int32_t k = config.model.ChunkSize();
  batch.chunks = (batch.sequence_length + k - 1) / k;
  const int64_t rows = int64_t{1} * batch.samples * batch.sequence_length;
  GuardAllocator memory;
  const Tensor text = Integers(fmt::format("update {}", update), {rows + 1}, 0, config.model.vocab_size, memory);
  batch.inputs.assign(text.As<int32_t>(), text.As<int32_t>() + rows);
  batch.targets.assign(text.As<int32_t>() + 1, text.As<int32_t>() + rows + 1);
  if (config.data.document_mask) {
    AddDocuments(config, batch);
  }
  batch.target_count = std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t t) { return t >= 0; });
  return batch;
}

// A run as `ksa train` makes it.
class TrainingRun {
 public:
  explicit TrainingRun(const Config& config)
      : config_(config),
        plan_(PlanMemory(config)),
        group_(MakeSelfCommunicator()),
        runtime_(*group_,
                 {.device = DeviceKind::kCuda,
                  .deterministic = config.run.deterministic,
                  .device_bytes = plan_.ArenaBytes()}),
        state_(config_.model, config_.training, config_.optimizer, {}, runtime_) {
    state_.store.Initialize(5, runtime_.stream());
  }

  UpdateOutcome Update(int64_t update, double most_norm = std::numeric_limits<double>::infinity()) {
    const UpdateOutcome outcome = state_.updater.Run(BatchOf(config_, update), update, config_.optimizer.lr, most_norm);
    losses_.push_back(outcome.loss);
    losses_.push_back(outcome.grad_norm);
    return outcome;
  }

  // Bytes of everything that an update changes.
  [[nodiscard]] std::vector<std::vector<char>> Bits() const {
    const ParameterStore& store = state_.store;
    std::vector<std::vector<char>> bits;
    for (const TensorView& x : {store.weights(), store.master(), store.exp_avg(), store.exp_avg_sq()}) {
      const HostCopy copy(x, runtime_.stream());
      const char* data = static_cast<const char*>(copy.view().data);
      bits.emplace_back(data, data + copy.view().bytes());
    }
    return bits;
  }

  // Loss and gradient norm of every update so far.
  [[nodiscard]] const std::vector<double>& losses() const { return losses_; }

  [[nodiscard]] const MemoryPlan& plan() const { return plan_; }

  [[nodiscard]] Runtime& runtime() { return runtime_; }

  [[nodiscard]] ParameterStore& store() { return state_.store; }

  [[nodiscard]] Optimizer& optimizer() { return state_.optimizer; }

 private:
  Config config_;
  MemoryPlan plan_;
  std::unique_ptr<Communicator> group_;
  Runtime runtime_;
  TrainingState state_;
  std::vector<double> losses_;
};

class GpuTrainingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (GpuCount() == 0) {
      GTEST_SKIP() << "no GPU";
    }
  }
};

TEST_F(GpuTrainingTest, RunsAndPoliciesOfRecomputationAgreeInBits) {
  for (const TrainingCase& c : Cases()) {
    TrainingRun first(ConfigOf(c));
    for (int64_t update = 1; update <= 3; ++update) {
      EXPECT_TRUE(first.Update(update).finite);
    }
    EXPECT_NE(first.losses()[0], first.losses()[2]) << "the updates are the same, which shows nothing";
    for (const Recompute recompute : {Recompute::kNone, Recompute::kAttention, Recompute::kMlp, Recompute::kBlock}) {
      SCOPED_TRACE(fmt::format("{}, recompute {}", c.name, static_cast<int>(recompute)));
      TrainingRun run(ConfigOf(c, recompute));
      for (int64_t update = 1; update <= 3; ++update) {
        run.Update(update);
      }
      EXPECT_EQ(run.losses(), first.losses());
      EXPECT_TRUE(run.Bits() == first.Bits()) << "weights or moments differ";
    }
  }
}

// The plan is made without a GPU, by the same code: what it says is what happens, and nothing is taken from the driver
// once the run is set up.
TEST_F(GpuTrainingTest, MemoryIsAsPlanned) {
  std::vector<TrainingCase> cases = Cases();
  cases.push_back({"additions in any order", {"run.deterministic=false", "model.head_dim=128"}});
  for (const TrainingCase& c : cases) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock}) {
      SCOPED_TRACE(fmt::format("{}, recompute {}", c.name, static_cast<int>(recompute)));
      TrainingRun run(ConfigOf(c, recompute));
      const int64_t reserved = run.runtime().allocator().reserved_bytes();
      EXPECT_LT(reserved, run.plan().ArenaBytes() + int64_t{4096}) << "one slab, as large as planned";
      for (int64_t update = 1; update <= 4; ++update) {
        run.Update(update);
      }
      EXPECT_EQ(run.runtime().arena()->extent(), run.plan().ArenaBytes());
      EXPECT_EQ(run.runtime().allocator().use().peak, run.plan().ArenaBytes() - run.plan().unused);
      EXPECT_EQ(run.runtime().allocator().reserved_bytes(), reserved) << "the driver was asked for more";
    }
  }
}

// Decided on the device, before the host knows.
TEST_F(GpuTrainingTest, WhatIsNotFiniteIsNotApplied) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    TrainingRun run(ConfigOf(Cases()[1]));
    EXPECT_TRUE(run.Update(1).finite);
    const auto good = run.Bits();
    const Parameter& parameter = run.store().Get("model.layers.1.mlp.down_proj.weight");
    GuardAllocator memory;
    const int64_t size = parameter.spec.shape.size();
    const Tensor values = Tensor::Empty({size}, run.store().state_dtype(), memory);
    const HostCopy master(run.store().master().Rows(parameter.offset, size), run.runtime().stream());
    for (int64_t i = 0; i < size; ++i) {
      SetElement(values, i, i == 77 ? bad : ElementAt(master.view(), i));
    }
    run.store().SetWeights(parameter, values, run.runtime().stream());
    const auto before = run.Bits();
    EXPECT_FALSE(before == good);
    const UpdateOutcome outcome = run.Update(2);
    EXPECT_FALSE(outcome.finite);
    EXPECT_FALSE(std::isfinite(outcome.loss) && std::isfinite(outcome.grad_norm));
    EXPECT_TRUE(run.Bits() == before) << "the update was applied";

    // Mended, the run goes on.
    SetElement(values, 77, ElementAt(master.view(), 77));
    run.store().SetWeights(parameter, values, run.runtime().stream());
    EXPECT_TRUE(run.Bits() == good);
    EXPECT_TRUE(run.Update(2).finite);
    EXPECT_FALSE(run.Bits() == good);
  }
}

TEST_F(GpuTrainingTest, ATooLargeNormIsNotApplied) {
  TrainingRun run(ConfigOf(Cases()[1]));
  EXPECT_TRUE(run.Update(1).applied);
  const auto before = run.Bits();
  const UpdateOutcome none = run.Update(2, 0.0);
  EXPECT_TRUE(none.finite);
  EXPECT_FALSE(none.applied);
  EXPECT_TRUE(run.Bits() == before) << "the update was applied";
  EXPECT_FALSE(run.Update(2, std::nextafter(none.grad_norm, 0.0)).applied);
  EXPECT_TRUE(run.Bits() == before) << "the update was applied";
  EXPECT_TRUE(run.Update(2, none.grad_norm).applied) << "not above it";
  EXPECT_FALSE(run.Bits() == before);
}

// A save beside training holds the state of its beginning, while updates that follow change it.
TEST_F(GpuTrainingTest, ASaveBesideTrainingHoldsTheStateOfItsBeginning) {
  TrainingRun run(ConfigOf(Cases()[1]));
  EXPECT_TRUE(run.Update(1).applied);
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  CheckpointMeta meta;
  meta.run_id = "00112233445566aa";
  meta.step = 1;
  const std::string expected =
      SaveCheckpoint(run.store(), *self, meta, {.folder = scratch / "sync"}, run.runtime().stream());
  AsyncSaver saver(run.store(), *self, run.runtime().stream());
  run.optimizer().SetBeforeChange([&] { saver.HoldBack(); });
  saver.Begin(meta, {.folder = scratch / "async"});
  for (int64_t update = 2; update <= 6; ++update) {
    EXPECT_TRUE(run.Update(update).applied);
  }
  const std::string path = saver.Finish();
  run.optimizer().SetBeforeChange({});
  EXPECT_EQ(RenderTensors(OpenCheckpoint(path).manifest.tensors),
            RenderTensors(OpenCheckpoint(expected).manifest.tensors));
}

}  // namespace
}  // namespace ksa::testing
