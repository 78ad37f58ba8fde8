#include "trainer/step/training_state.h"

#include <algorithm>

#include "model/ksa/parameters.h"

namespace ksa {
namespace {

// Elements after which a bucket of gradients ends, 256 MiB in fp32: large enough for a link's full bandwidth, and less
// than a layer of the models that need overlap (75 M elements at 1.9 B), so that a layer's sums start with its
// backward.
constexpr int64_t kBucketElements = int64_t{64} << 20;

std::vector<ParameterSpec> TrainedSpecs(const ModelConfig& config,
                                        Trainable trainable,
                                        const FlatSharding& sharding,
                                        bool sequence_parallel) {
  std::vector<ParameterSpec> specs = ParameterSpecs(config, sharding.tensor_parts, sequence_parallel);
  SetTrained(specs, trainable);
  return specs;
}

}  // namespace

TrainingState::TrainingState(const ModelConfig& model_config,
                             const TrainingConfig& training,
                             const OptimizerConfig& optimizer_config,
                             const FlatSharding& sharding,
                             Runtime& runtime)
    : store(TrainedSpecs(model_config, training.trainable, sharding, runtime.mesh().sequence_parallel()),
            *training.precision,
            runtime.allocator(),
            sharding,
            runtime.stream()),
      model(model_config, store, runtime.allocator(), runtime.stream(), training.sequence_length),
      optimizer(optimizer_config, store, runtime.mesh(), runtime.allocator(), runtime.stream()),
      updater(runtime,
              model,
              optimizer,
              training.micro_batch_size.value(),
              training.recompute,
              {training.distill, training.z_loss}) {}

MeshShape MeshOf(const ParallelConfig& parallel, int ranks) {
  return {.data = ranks / (parallel.context * parallel.tensor), .context = parallel.context, .tensor = parallel.tensor};
}

FlatSharding ShardingOf(const ParallelConfig& parallel, const ProcessMesh& mesh) {
  const Communicator& state = mesh.state_group();
  return {.parts = state.size(),
          .rank = state.rank(),
          .shard_optimizer = parallel.zero == 1 && state.size() > 1,
          .tensor_parts = mesh.Size(MeshAxis::kTensor),
          .tensor_rank = mesh.Rank(MeshAxis::kTensor),
          .bucket_elements = state.size() > 1 ? kBucketElements : INT64_MAX};
}

}  // namespace ksa
