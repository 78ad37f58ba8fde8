// Tensors that ranks hold alike: equal after updates on every mesh, and a bit that changes on one rank is found by all.
#include "trainer/step/replicas.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/config/load.h"
#include "trainer/step/training_state.h"

namespace ksa::testing {
namespace {

// Two key/value heads, so that four tensor ranks share them; head norms and summaries of their own.
Config Small(const MeshShape& mesh, const std::string& precision, int zero) {
  return ParseConfig(
             "run: {name: replicas}\n"
             "model: {vocab_size: 53, hidden_size: 24, intermediate_size: 20, num_hidden_layers: 2,"
             " num_attention_heads: 4, num_key_value_heads: 2, head_dim: 6, qk_norm: true,"
             " attention: {pattern: [ksa, full], ksa: {chunk_size: 4, window_chunks: 1}}}\n"
             "data: {train: [{path: data/a/train}]}\n"
             "training: {sequence_length: 32, global_batch_size: 2, max_steps: 100}\n"
             "optimizer: {lr: 1e-3}\n",
             "replicas.yaml",
             {"training.precision=" + precision,
              "parallel.context=" + std::to_string(mesh.context),
              "parallel.tensor=" + std::to_string(mesh.tensor),
              "parallel.zero=" + std::to_string(zero)})
      .config;
}

Batch BatchOf(const Config& config, const MeshShape& mesh, int64_t data_rank) {
  Batch batch;
  batch.samples = static_cast<int32_t>(config.training.global_batch_size / mesh.data);
  batch.sequence_length = config.training.sequence_length;
  batch.chunks = (batch.sequence_length + config.model.ChunkSize() - 1) / config.model.ChunkSize();
  for (int64_t i = 0; i < int64_t{1} * batch.samples * batch.sequence_length; ++i) {
    batch.inputs.push_back(static_cast<int32_t>((i * i + 7 * data_rank + 3) % config.model.vocab_size));
    batch.targets.push_back(static_cast<int32_t>((i * 5 + data_rank) % config.model.vocab_size));
    ++batch.target_count;
  }
  return batch;
}

using Spoil = std::function<void(ParameterStore& store, const ProcessMesh& mesh)>;

// Three updates, `spoil`, then the comparison. What each rank threw.
std::vector<std::exception_ptr> Compare(const MeshShape& mesh,
                                        const std::string& precision,
                                        int zero,
                                        const Spoil& spoil) {
  const Config config = Small(mesh, precision, zero);
  return RunRanksToEnd(static_cast<int>(mesh.size()), [&](Communicator& world) {
    Runtime runtime(world, {.mesh = mesh, .sequence_parallel = config.parallel.sequence_parallel, .threads = 1});
    TrainingState state(
        config.model, config.training, config.optimizer, ShardingOf(config.parallel, runtime.mesh()), runtime);
    state.store.Initialize(7, runtime.stream());
    const Batch batch = BatchOf(config, mesh, runtime.mesh().Rank(MeshAxis::kData));
    for (int64_t update = 1; update <= 3; ++update) {
      EXPECT_TRUE(state.updater.Run(batch, update, 1e-3).finite);
      CompareReplicas(state.store, runtime.mesh(), runtime.stream());
    }
    spoil(state.store, runtime.mesh());
    CompareReplicas(state.store, runtime.mesh(), runtime.stream());
  });
}

void FlipLowestBit(const TensorView& values, int64_t element) {
  static_cast<unsigned char*>(values.data)[element * SizeOf(values.dtype)] ^= 1U;
}

Spoil WeightOf(const std::string& name, int rank) {
  return [name, rank](ParameterStore& store, const ProcessMesh& mesh) {
    if (mesh.world().rank() == rank) {
      const TensorView& value = store.Get(name).value;
      FlipLowestBit(value, value.size() - 1);
    }
  };
}

void ExpectAllSay(const std::vector<std::exception_ptr>& errors, const std::vector<std::string>& parts) {
  std::set<std::string> messages;
  for (const std::exception_ptr& error : errors) {
    ASSERT_TRUE(error) << parts.front() << " was not found";
    const Error thrown = ErrorOf([&] { std::rethrow_exception(error); });
    EXPECT_EQ(thrown.code(), ExitCode::kDiverged) << thrown.what();
    messages.insert(thrown.what());
  }
  ASSERT_EQ(messages.size(), 1U) << "ranks say different things";
  for (const std::string& part : parts) {
    EXPECT_NE(messages.begin()->find(part), std::string::npos) << part << " in " << *messages.begin();
  }
}

void ExpectNothing(const std::vector<std::exception_ptr>& errors) {
  for (const std::exception_ptr& error : errors) {
    if (error) {
      std::rethrow_exception(error);
    }
  }
}

constexpr const char* kNorm = "model.layers.1.input_layernorm.weight";
constexpr const char* kHeadNorm = "model.layers.0.self_attn.k_norm.weight";
constexpr const char* kQuery = "model.layers.0.self_attn.q_proj.weight";
constexpr const char* kKey = "model.layers.1.self_attn.k_proj.weight";
constexpr const char* kSummary = "summary_embedding.weight";

TEST(CompareReplicas, AreEqualAfterUpdatesOnEveryMesh) {
  for (const MeshShape& mesh : {MeshShape{2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {1, 1, 4}, {2, 1, 2}, {1, 2, 2}, {2, 2, 1}}) {
    for (const char* precision : {"fp32", "bf16"}) {
      for (const int zero : {0, 1}) {
        ExpectNothing(Compare(mesh, precision, zero, [](ParameterStore&, const ProcessMesh&) {}));
      }
    }
  }
}

TEST(CompareReplicas, WholeWeightsOverDataAndContextRanks) {
  for (const MeshShape& mesh : {MeshShape{2, 1, 1}, {1, 2, 1}}) {
    for (const int zero : {0, 1}) {
      ExpectAllSay(Compare(mesh, "bf16", zero, WeightOf(kQuery, 1)),
                   {std::string("weights of ") + kQuery, "ranks 0, 1 have different copies"});
    }
  }
  ExpectAllSay(Compare({2, 2, 1}, "fp32", 1, WeightOf(kSummary, 2)),
               {std::string("weights of ") + kSummary, "rank(s) 2 have another copy than 3 others"});
}

TEST(CompareReplicas, MomentsWithoutZero) {
  const Spoil spoil = [](ParameterStore& store, const ProcessMesh& mesh) {
    if (mesh.world().rank() == 1) {
      FlipLowestBit(store.exp_avg_sq(), store.Get(kQuery).offset + 3);
    }
  };
  ExpectAllSay(Compare({2, 1, 1}, "fp32", 0, spoil), {std::string("exp_avg_sq of ") + kQuery});
  const Spoil master = [](ParameterStore& store, const ProcessMesh& mesh) {
    if (mesh.world().rank() == 0) {
      FlipLowestBit(store.Master({0, store.padded_size()}), store.Get(kNorm).offset);
    }
  };
  ExpectAllSay(Compare({1, 2, 1}, "bf16", 0, master), {std::string("master weights of ") + kNorm});
}

TEST(CompareReplicas, WhatTensorRanksHoldWhole) {
  for (const char* name : {kNorm, kHeadNorm, kSummary}) {
    ExpectAllSay(Compare({1, 1, 2}, "fp32", 0, WeightOf(name, 0)), {std::string("weights of ") + name});
    // A row of the mesh: ranks 0 and 1 are tensor ranks of data rank 0. Rank 3's copy differs from 1's and from 2's.
    ExpectAllSay(Compare({2, 1, 2}, "fp32", 1, WeightOf(name, 3)), {std::string("weights of ") + name});
  }
  ExpectNothing(Compare({1, 1, 2}, "fp32", 0, WeightOf(kQuery, 0)));  // each has its own part of it
}

TEST(CompareReplicas, SharedKeyValueHeads) {
  ExpectAllSay(Compare({1, 1, 4}, "fp32", 0, WeightOf(kKey, 3)),
               {std::string("weights of ") + kKey, "ranks 2, 3 have different copies"});
  ExpectNothing(Compare({1, 1, 2}, "fp32", 0, WeightOf(kKey, 1)));  // a head each: no copies
}

}  // namespace
}  // namespace ksa::testing
