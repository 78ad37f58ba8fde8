#include "tests/parallel/equality/training.h"

#include <cmath>
#include <map>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "parallel/comm/threads.h"
#include "tests/support/kernel_test.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {
namespace {

Config ConfigOf(const Problem& problem, const RunLayout& layout) {
  Config config;
  config.model = problem.model;
  config.training.sequence_length = problem.tokens;
  config.training.global_batch_size = problem.samples;
  config.training.micro_batch_size = layout.micro_batch;
  config.training.precision = problem.precision;
  config.training.recompute = layout.recompute;
  config.training.trainable = problem.trainable;
  config.training.distill = problem.distill;
  config.training.z_loss = problem.z_loss;
  config.optimizer.lr = kLearningRate;
  config.optimizer.clip_grad_norm = kClip;
  config.parallel.zero = layout.zero;
  return config;
}

FlatSharding ShardingOf(const RunLayout& layout, const ProcessMesh& mesh) {
  FlatSharding sharding = ksa::ShardingOf({.zero = layout.zero}, mesh);
  sharding.bucket_elements = layout.bucket_elements;
  return sharding;
}

HeldTensor Empty(const Parameter& parameter) {
  return {.name = parameter.spec.name,
          .whole = parameter.spec.shape,
          .shape = parameter.shape,
          .columns = parameter.spec.tensor == Placement::Sharded(1),
          .begin = parameter.shard_begin,
          .values = std::vector<double>(static_cast<size_t>(parameter.shape.size()), std::nan(""))};
}

// Of the elements whose sums are this rank's.
std::vector<HeldTensor> GradientsOf(const ParameterStore& store) {
  std::vector<HeldTensor> tensors;
  for (const Parameter& parameter : store.parameters()) {
    if (!parameter.spec.trained) {
      continue;
    }
    tensors.push_back(Empty(parameter));
    const FlatRange all = {parameter.offset, parameter.offset + parameter.shape.size()};
    for (const FlatRange& shard : store.shards()) {
      const FlatRange held = Intersect(shard, all);
      for (int64_t i = held.begin; i < held.end; ++i) {
        tensors.back().values[static_cast<size_t>(i - parameter.offset)] = ElementAt(store.grads(), i);
      }
    }
  }
  return tensors;
}

std::vector<HeldTensor> WeightsOf(const ParameterStore& store) {
  std::vector<HeldTensor> tensors;
  for (const Parameter& parameter : store.parameters()) {
    tensors.push_back(Empty(parameter));
    tensors.back().values = ToDouble(parameter.value);
  }
  return tensors;
}

}  // namespace

Rank::Rank(Communicator& world, const Problem& of, const RunLayout& layout, const ProcessMesh::MakeGroup& watch)
    : problem(of),
      config(ConfigOf(of, layout)),
      runtime(world,
              {.mesh = layout.mesh,
               .sequence_parallel = layout.sequence_parallel,
               .threads = layout.threads,
               .watch_group = watch}),
      state(config.model, config.training, config.optimizer, ShardingOf(layout, runtime.mesh()), runtime) {
  state.store.Initialize(7, runtime.stream());
}

Batch Rank::Samples(int64_t update) const {
  const ProcessMesh& mesh = runtime.mesh();
  const int64_t count = problem.samples / mesh.shape().data;
  return SamplesOf(problem, update, mesh.Rank(MeshAxis::kData) * count, count);
}

RankRun Train(Communicator& world, const Problem& problem, const RunLayout& layout, const Resume& resume) {
  Rank rank(world, problem, layout);
  TrainingState& state = rank.state;
  if (resume.load) {
    LoadInto(state.store, OpenCheckpoint(resume.folder, world), LoadParts::kWeightsAndMoments, rank.runtime.stream());
  }
  RankRun run;
  const int64_t last = resume.after > 0 && !resume.load ? resume.after : kUpdates;
  for (int64_t update = resume.load ? resume.after + 1 : 1; update <= last; ++update) {
    const UpdateOutcome outcome = state.updater.Run(rank.Samples(update), update, kLearningRate);
    EXPECT_TRUE(outcome.finite);
    run.losses.push_back(outcome.loss);
    run.norms.push_back(outcome.grad_norm);
    if (run.gradients.empty()) {
      run.gradients = GradientsOf(state.store);
    }
  }
  run.weights = WeightsOf(state.store);
  if (last < kUpdates) {
    const CheckpointMeta meta = {.run_id = "00112233445566aa",
                                 .step = last,
                                 .tokens = last * problem.samples * problem.tokens,
                                 .samples = last * problem.samples,
                                 .mesh = layout.mesh,
                                 .configuration = "run: {name: equality}\n",
                                 .data_fingerprint = "fedcba9876543210"};
    SaveCheckpoint(state.store, world, meta, {.folder = resume.folder}, rank.runtime.stream());
  }
  return run;
}

std::vector<RankRun> TrainOnThreads(const Problem& problem, const RunLayout& layout, const Resume& resume) {
  std::vector<RankRun> runs(static_cast<size_t>(layout.mesh.size()));
  RunRanks(static_cast<int>(layout.mesh.size()), [&](Communicator& world) {
    runs[static_cast<size_t>(world.rank())] = Train(world, problem, layout, resume);
  });
  return runs;
}

const WholeRun& OnOneRank(const Problem& problem) {
  static std::map<std::string, WholeRun> runs;
  const std::string key = fmt::format("{}, {}", problem.name, NameOf(problem.precision));
  const auto found = runs.find(key);
  return found != runs.end() ? found->second : runs[key] = Whole(TrainOnThreads(problem, {}));
}

}  // namespace ksa::testing
