#include "trainer/loop/imaginary_run.h"

#include <algorithm>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/evaluate/validation.h"
#include "trainer/loop/targets.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

// The driver loads kernels and libraries' code at their first use.
constexpr int64_t kCodeBytes = int64_t{512} << 20;

// A process on the CPU before it takes any memory for tensors: code, MPI, buffers.
constexpr int64_t kHostProcessBytes = int64_t{128} << 20;

// What NCCL takes for a group of several ranks when the group is made: buffers and its kernels' code.
constexpr int64_t kNcclGroupBytes = int64_t{384} << 20;

// Of NCCL, for all groups of a mesh.
int64_t NcclBytes(const ProcessMesh& mesh, int replicas) {
  int64_t groups = (mesh.state_group().size() > 1 ? 1 : 0) + (replicas > 1 ? 1 : 0);
  for (const MeshAxis axis : {MeshAxis::kContext, MeshAxis::kTensor}) {
    groups += mesh.Size(axis) > 1 ? 1 : 0;
  }
  return groups * kNcclGroupBytes;
}

// Targets of the samples of a batch, as far as memory depends on them.
struct BlankTargets {
  int64_t most = 0;    // of a sample
  bool lacks = false;  // some row of the batch has none
};

// A context rank may hold more than its part of a task's targets.
BlankTargets TargetsOf(const Config& config, int64_t most, bool lacks) {
  return {config.parallel.context > 1 ? config.training.sequence_length : most, lacks};
}

// Samples of one rank, as the loader would make them: with as many targets as there can be.
Batch BlankBatch(const Config& config, int64_t samples, const BlankTargets& targets) {
  Batch batch;
  batch.samples = static_cast<int32_t>(samples);
  batch.sequence_length = config.training.sequence_length;
  const int32_t k = config.model.ChunkSize();
  batch.chunks = (batch.sequence_length + k - 1) / k;
  batch.inputs.resize(static_cast<size_t>(samples * batch.sequence_length));
  batch.targets.resize(batch.inputs.size());
  batch.source.resize(static_cast<size_t>(samples));
  // One row is enough, and over context ranks one of each.
  const int64_t lacking = !targets.lacks ? 0 : config.parallel.context > 1 ? batch.sequence_length : 1;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    const bool has_one = row % batch.sequence_length < targets.most && !(row < lacking && row % k == 0);
    batch.targets[i] = has_one ? 0 : Batch::kNoTarget;
    batch.target_count += has_one ? 1 : 0;
  }
  if (config.data.document_mask) {  // a sample is one document
    batch.document_first_chunk.resize(static_cast<size_t>(samples * batch.chunks));
    batch.chunk_tokens.resize(batch.document_first_chunk.size(), k);
    for (size_t last = static_cast<size_t>(batch.chunks) - 1; last < batch.chunk_tokens.size();
         last += static_cast<size_t>(batch.chunks)) {
      batch.chunk_tokens[last] = batch.sequence_length - (batch.chunks - 1) * k;
    }
  }
  return batch;
}

// Updates that take as much memory as any: the first, and with annealing the first that has the summary rows' own
// projections and the text's both.
std::vector<int64_t> UpdatesToPlan(const Config& config) {
  std::vector<int64_t> updates = {1};
  if (config.model.ksa.anneal.has_value()) {
    const int64_t mixed = config.model.ksa.anneal->start_step + 1;
    if (mixed > 1 && mixed <= config.training.max_steps) {
      updates.push_back(mixed);
    }
  }
  return updates;
}

// What the samples take that an update has beside `batch`: their ids, targets and documents.
Tensor TakeRest(
    const Config& config, const MeshShape& mesh, const Batch& batch, int64_t samples, Allocator& allocator) {
  const int64_t rest = samples - batch.samples;
  if (rest == 0) {
    return {};
  }
  const int64_t documents = config.data.document_mask ? 2 * int64_t{batch.chunks} : 0;
  const int64_t rows = (batch.sequence_length + mesh.context - 1) / mesh.context;
  const int64_t arrays = TrainingLacksTargets(config) ? 3 : 2;  // ids, targets, the rows that have one
  return Tensor::Empty({rest * (arrays * rows + documents)}, DType::kI32, allocator);
}

MemoryPlan MemoryOf(Runtime& runtime, const ParameterStore& store, bool on_cpu) {
  MemoryPlan plan = {
      .weights = store.weights().bytes(),
      .gradients = store.grads().bytes(),
      .master_weights = store.master_bytes(),
      .moments = 2 * store.exp_avg().bytes(),
      .libraries = on_cpu ? kHostProcessBytes
                          : kCodeBytes + GpuStream::kWorkspaceBytes + NcclBytes(runtime.mesh(), store.replicas())};
  const int64_t peak = runtime.allocator().use().peak;
  plan.activations = peak - plan.weights - plan.gradients - plan.master_weights - plan.moments;
  plan.unused = runtime.arena()->extent() - peak;
  return plan;
}

}  // namespace

ImaginaryRun Imagine(const Config& config, const ImaginaryRank& place) {
  ImaginaryRun run;
  run.mesh = MeshOf(config.parallel, place.ranks);
  run.rank = place.rank;
  run.log = std::make_unique<WorkLog>();
  const std::unique_ptr<Communicator> world = MakeDryCommunicator(place.ranks, place.rank);
  world->SetObserver(run.log.get());
  Runtime runtime(*world,
                  {.device = place.on_cpu ? DeviceKind::kCpu : DeviceKind::kCuda,
                   .mesh = run.mesh,
                   .sequence_parallel = config.parallel.sequence_parallel,
                   .threads = 1,
                   .deterministic = config.run.deterministic,
                   .dry = true});
  TrainingState state(
      config.model, config.training, config.optimizer, ShardingOf(config.parallel, runtime.mesh()), runtime);
  state.store.Initialize(config.run.seed, runtime.stream());
  run.replicas = state.store.replicas();
  const int64_t samples = config.training.global_batch_size / run.mesh.data;
  const int64_t micro_batch = *config.training.micro_batch_size;
  run.micro_batches = (samples + micro_batch - 1) / micro_batch;
  const bool few = place.three_micro_batches && samples % micro_batch == 0;
  const Batch batch = BlankBatch(config,
                                 few ? std::min(samples, 3 * micro_batch) : samples,
                                 TargetsOf(config, MostTrainingTargets(config), TrainingLacksTargets(config)));
  state.updater.CountSources(static_cast<int64_t>(config.data.train.size()));
  const Tensor rest = TakeRest(config, run.mesh, batch, samples, runtime.allocator());
  for (const int64_t update : UpdatesToPlan(config)) {
    runtime.SetTracer(update == 1 ? run.log.get() : nullptr);
    state.updater.Run(batch, update, config.optimizer.lr);
    run.log->Stop();
    if (config.evaluation.interval > 0) {
      const BlankTargets targets = TargetsOf(config, MostEvaluationTargets(config), EvaluationLacksTargets(config));
      BatchEvaluator(runtime, state.model)
          .Run(BlankBatch(config, micro_batch, targets),
               AnnealMix(config.model, update),
               !config.evaluation.tasks.empty(),
               [](const BatchEvaluator::TargetResult& /*result*/) {});
    }
  }
  run.memory = MemoryOf(runtime, state.store, place.on_cpu);
  return run;
}

}  // namespace ksa
