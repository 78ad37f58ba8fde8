#include "trainer/loop/imaginary_run.h"

#include <algorithm>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/evaluate/validation.h"
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

// Samples of one rank, as the loader would make them.
Batch BlankBatch(const Config& config, int64_t samples) {
  Batch batch;
  batch.samples = static_cast<int32_t>(samples);
  batch.sequence_length = config.training.sequence_length;
  const int32_t k = config.model.ChunkSize();
  batch.chunks = (batch.sequence_length + k - 1) / k;
  batch.inputs.resize(static_cast<size_t>(samples * batch.sequence_length));
  batch.targets.resize(batch.inputs.size());
  if (config.data.document_mask) {  // a sample is one document
    batch.document_first_chunk.resize(static_cast<size_t>(samples * batch.chunks));
    batch.chunk_tokens.resize(batch.document_first_chunk.size(), k);
    for (size_t last = static_cast<size_t>(batch.chunks) - 1; last < batch.chunk_tokens.size();
         last += static_cast<size_t>(batch.chunks)) {
      batch.chunk_tokens[last] = batch.sequence_length - (batch.chunks - 1) * k;
    }
  }
  batch.target_count = samples * batch.sequence_length;
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
  return Tensor::Empty({rest * (2 * rows + documents)}, DType::kI32, allocator);
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
  const Batch batch = BlankBatch(config, few ? std::min(samples, 3 * micro_batch) : samples);
  const Tensor rest = TakeRest(config, run.mesh, batch, samples, runtime.allocator());
  for (const int64_t update : UpdatesToPlan(config)) {
    runtime.SetTracer(update == 1 ? run.log.get() : nullptr);
    state.updater.Run(batch, update, config.optimizer.lr);
    run.log->Stop();
    if (config.evaluation.interval > 0) {
      EvaluationSums sums(config.training.sequence_length, micro_batch);
      BatchEvaluator(runtime, state.model)
          .Add(BlankBatch(config, micro_batch), 0, AnnealMix(config.model, update), sums);
    }
  }
  run.memory = MemoryOf(runtime, state.store, place.on_cpu);
  return run;
}

}  // namespace ksa
