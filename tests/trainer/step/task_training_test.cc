// A model that learns a task: accuracy rises from chance, is the same on every mesh, and rows without a target change
// nothing by being left out.
#include <algorithm>

#include <gtest/gtest.h>

#include "data/loader/dataset.h"
#include "parallel/comm/threads.h"
#include "trainer/config/load.h"
#include "trainer/evaluate/task_evaluator.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr const char* kRun =
    "run: {name: learns}\n"
    "model: {vocab_size: 40, hidden_size: 32, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 4,"
    " initializer_range: fan_in, attention: {pattern: [ksa], ksa: {chunk_size: 4, window_chunks: 2}}}\n"
    "data: {train: [{task: recall_stream, weight: 3, keys: 8, values: 8, pool_samples: 0},"
    " {task: copy, weight: 1, span: 4, symbols: 8}]}\n"
    "training: {sequence_length: 32, global_batch_size: 16, max_steps: 100, micro_batch_size: 8, precision: fp64}\n"
    "optimizer: {lr: 1e-2}\n"
    "evaluation: {tasks: [{task: recall_stream, keys: 8, values: 8, samples: 30}]}\n";

struct Outcome {
  std::vector<double> losses;
  std::vector<std::vector<double>> by_source;
  AnswerCount before;
  AnswerCount after;
  std::map<std::string, std::map<double, AnswerCount>> by;
};

DatasetConfig DataOf(const Config& config) {
  DatasetConfig data;
  data.train = config.data.train;
  data.sequence_length = config.training.sequence_length;
  data.chunk_size = config.model.ChunkSize();
  data.vocab_size = config.model.vocab_size;
  data.seed = config.run.seed;
  return data;
}

// Of every rank.
std::vector<Outcome> Train(const MeshShape& mesh, bool sequence_parallel, int64_t updates) {
  Config config = ParseConfig(kRun, "learns.yaml").config;
  config.parallel.sequence_parallel = sequence_parallel;
  const Dataset dataset(DataOf(config));
  const EvaluationTask& task = config.evaluation.tasks[0];
  std::vector<Outcome> outcomes(static_cast<size_t>(mesh.size()));
  RunRanks(static_cast<int>(mesh.size()), [&](Communicator& world) {
    Runtime runtime(world, {.mesh = mesh, .sequence_parallel = sequence_parallel, .threads = 1});
    TrainingState state(
        config.model, config.training, config.optimizer, ShardingOf(config.parallel, runtime.mesh()), runtime);
    state.store.Initialize(config.run.seed, runtime.stream());
    state.updater.CountSources(2);
    TaskEvaluator evaluator(
        runtime,
        state.model,
        {.task = task.task, .name = task.name, .samples = task.samples, .data = DataOf(config), .tokenizer = nullptr},
        4);
    Outcome& outcome = outcomes[static_cast<size_t>(world.rank())];
    outcome.before = evaluator.Run(1.0).value().all;
    const int64_t share = config.training.global_batch_size / mesh.data;
    Batch batch;
    for (int64_t update = 1; update <= updates; ++update) {
      dataset.MakeBatch((update - 1) * config.training.global_batch_size + runtime.mesh().Rank(MeshAxis::kData) * share,
                        share,
                        batch);
      const UpdateOutcome made = state.updater.Run(batch, update, config.optimizer.lr);
      outcome.losses.push_back(made.loss);
      outcome.by_source.push_back(made.source_loss);
    }
    const TaskScores scores = evaluator.Run(1.0).value();
    outcome.after = scores.all;
    outcome.by = scores.by;
  });
  return outcomes;
}

TEST(TaskTraining, LearnsToRecall) {
  const Outcome outcome = Train({.data = 1, .context = 1, .tensor = 1}, false, 150).front();
  EXPECT_LT(outcome.before.Accuracy(), 0.4) << "chance is one in eight";
  EXPECT_GT(outcome.after.Accuracy(), outcome.before.Accuracy() + 0.2);
  EXPECT_EQ(outcome.before.answers, outcome.after.answers);
  int64_t counted = 0;
  for (const auto& [distance, count] : outcome.by.at("distance")) {
    counted += count.answers;
  }
  EXPECT_EQ(counted, outcome.after.answers);
}

TEST(TaskTraining, EveryMeshLearnsTheSame) {
  const Outcome one = Train({.data = 1, .context = 1, .tensor = 1}, false, 5).front();
  const std::pair<MeshShape, bool> meshes[] = {{{.data = 2, .context = 1, .tensor = 1}, false},
                                               {{.data = 1, .context = 2, .tensor = 1}, false},
                                               {{.data = 1, .context = 1, .tensor = 2}, false},
                                               {{.data = 1, .context = 2, .tensor = 2}, true}};
  for (const auto& [mesh, sequence_parallel] : meshes) {
    SCOPED_TRACE(::testing::Message() << mesh.data << " x " << mesh.context << " x " << mesh.tensor);
    for (const Outcome& outcome : Train(mesh, sequence_parallel, 5)) {
      for (size_t u = 0; u < one.losses.size(); ++u) {
        EXPECT_NEAR(outcome.losses[u], one.losses[u], 1e-10 * one.losses[u]);
        ASSERT_EQ(outcome.by_source[u].size(), 2U);
        EXPECT_NEAR(outcome.by_source[u][0], one.by_source[u][0], 1e-10 * one.by_source[u][0]);
        EXPECT_NEAR(outcome.by_source[u][1], one.by_source[u][1], 1e-10 * one.by_source[u][1]);
      }
      EXPECT_EQ(outcome.before.right, one.before.right);
      EXPECT_EQ(outcome.after.right, one.after.right);
      EXPECT_EQ(outcome.after.answers, one.after.answers);
    }
  }
}

}  // namespace
}  // namespace ksa
