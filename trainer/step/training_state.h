// TrainingState: everything an update reads and writes on a device. The trainer, the memory plan and `ksa bench step`
// make the same one, so what is planned and measured is what runs.
#pragma once

#include <cstdint>

#include "model/autograd/parameter.h"
#include "model/ksa/model.h"
#include "trainer/config/config.h"
#include "trainer/optim/optimizer.h"
#include "trainer/step/runtime.h"
#include "trainer/step/update.h"

namespace ksa {

struct TrainingState {
  // `runtime` must outlive it. Weights are undefined until they are initialised or loaded.
  TrainingState(const ModelConfig& model_config,
                const TrainingConfig& training,
                const OptimizerConfig& optimizer_config,
                const FlatSharding& sharding,
                Runtime& runtime);
  TrainingState(const TrainingState&) = delete;
  TrainingState& operator=(const TrainingState&) = delete;

  ParameterStore store;
  KsaModel model;
  Optimizer optimizer;
  Updater updater;
};

// The mesh of a run with `ranks` ranks.
[[nodiscard]] MeshShape MeshOf(const ParallelConfig& parallel, int ranks);

// How the flat buffers of a run are divided among its ranks.
[[nodiscard]] FlatSharding ShardingOf(const ParallelConfig& parallel, const ProcessMesh& mesh);

}  // namespace ksa
