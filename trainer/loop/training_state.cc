#include "trainer/loop/training_state.h"

#include <algorithm>

#include "model/ksa/parameters.h"

namespace ksa {

TrainingState::TrainingState(const ModelConfig& model_config,
                             const TrainingConfig& training,
                             const OptimizerConfig& optimizer_config,
                             const FlatSharding& sharding,
                             Runtime& runtime)
    : store(ParameterSpecs(model_config), *training.precision, runtime.allocator(), sharding, runtime.stream()),
      model(model_config, store, runtime.allocator(), runtime.stream(), training.sequence_length),
      optimizer(optimizer_config, store, *runtime.mesh().data_group, runtime.allocator(), runtime.stream()),
      updater(runtime, model, optimizer, training.micro_batch_size, training.recompute) {}

FlatSharding ShardingOf(const ParallelConfig& parallel, const ProcessMesh& mesh) {
  return {mesh.data, mesh.data_rank, parallel.zero == 1 && mesh.data > 1};
}

}  // namespace ksa
