#include "trainer/loop/memory_plan.h"

#include <array>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "trainer/evaluate/validation.h"
#include "trainer/observe/log_line.h"
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
  if (config.data.document_mask) {
    batch.document_first_chunk.resize(static_cast<size_t>(samples * batch.chunks));
    batch.chunk_tokens.resize(batch.document_first_chunk.size());
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

}  // namespace

MemoryPlan PlanMemory(const Config& config, int ranks, int rank) {
  const std::unique_ptr<Communicator> world = MakeDryCommunicator(ranks, rank);
  const MeshShape mesh = MeshOf(config.parallel, ranks);
  const bool cpu = config.run.device == DeviceChoice::kCpu;
  Runtime runtime(*world,
                  {.device = cpu ? DeviceKind::kCpu : DeviceKind::kCuda,
                   .mesh = mesh,
                   .sequence_parallel = config.parallel.sequence_parallel,
                   .deterministic = config.run.deterministic,
                   .dry = true});
  TrainingState state(
      config.model, config.training, config.optimizer, ShardingOf(config.parallel, runtime.mesh()), runtime);
  state.store.Initialize(config.run.seed, runtime.stream());
  const int64_t samples = config.training.global_batch_size / mesh.data;
  for (const int64_t update : UpdatesToPlan(config)) {
    state.updater.Run(BlankBatch(config, samples), update, config.optimizer.lr);
    if (config.evaluation.interval > 0) {
      EvaluationSums sums(config.training.sequence_length, *config.training.micro_batch_size);
      BatchEvaluator(runtime, state.model)
          .Add(BlankBatch(config, *config.training.micro_batch_size), 0, AnnealMix(config.model, update), sums);
    }
  }
  MemoryPlan plan = {
      .weights = state.store.weights().bytes(),
      .gradients = state.store.grads().bytes(),
      .master_weights = state.store.has_separate_master() ? state.store.exp_avg().bytes() : 0,
      .moments = 2 * state.store.exp_avg().bytes(),
      .libraries = cpu ? kHostProcessBytes
                       : kCodeBytes + GpuStream::kWorkspaceBytes + NcclBytes(runtime.mesh(), state.store.replicas())};
  const int64_t peak = runtime.allocator().use().peak;
  plan.activations = peak - plan.weights - plan.gradients - plan.master_weights - plan.moments;
  plan.unused = runtime.arena()->extent() - peak;
  return plan;
}

std::string MemoryPlan::Table() const {
  const std::array<std::pair<const char*, int64_t>, 8> rows{{{"weights", weights},
                                                             {"gradients", gradients},
                                                             {"master weights", master_weights},
                                                             {"moments", moments},
                                                             {"activations and scratch", activations},
                                                             {"gaps between them", unused},
                                                             {"libraries", libraries},
                                                             {"in all", Total()}}};
  std::string text;
  for (const auto& [name, bytes] : rows) {
    text += fmt::format("  {:<24} {:>10}\n", name, FormatBytes(bytes));
  }
  text.pop_back();
  return text;
}

void CheckFits(const MemoryPlan& plan, const GpuInfo& gpu) {
  if (plan.Total() <= gpu.free_bytes) {
    return;
  }
  Fail(ExitCode::kOutOfMemory,
       "the run needs {} of device memory, {} has {} free of {}\n{}\nlower training.micro_batch_size (auto: what fits) "
       "or "
       "training.sequence_length, set training.recompute: block, or spread the optimizer state over more data ranks "
       "(parallel.zero: 1)",
       FormatBytes(plan.Total()),
       gpu.name,
       FormatBytes(gpu.free_bytes),
       FormatBytes(gpu.total_bytes),
       plan.Table());
}

}  // namespace ksa
