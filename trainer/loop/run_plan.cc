#include "trainer/loop/run_plan.h"

#include <algorithm>
#include <set>
#include <span>

#include <fmt/ranges.h>

#include "model/ksa/cost.h"
#include "trainer/config/load.h"
#include "trainer/config/rules.h"
#include "trainer/loop/micro_batch_size.h"
#include "trainer/loop/targets.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr double kSecondsADay = 86400.0;
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

// The figures are of bf16.
bool HasFigures(const Config& config) {
  return config.training.precision == DType::kBF16;
}

Config OnMesh(const Config& config, const MeshShape& mesh, Recompute recompute) {
  Config on = config;
  on.parallel.context = static_cast<int32_t>(mesh.context);
  on.parallel.tensor = static_cast<int32_t>(mesh.tensor);
  on.parallel.data = static_cast<int32_t>(mesh.data);
  on.parallel.sequence_parallel = mesh.tensor > 1 && (config.parallel.tensor == 1 || config.parallel.sequence_parallel);
  on.training.recompute = recompute;
  return on;
}

// Fits first, then by time.
bool IsBetter(const MeshPlan& a, const MeshPlan& b) {
  if (a.fits != b.fits) {
    return a.fits;
  }
  if (!a.fits || !a.seconds || !b.seconds) {
    return a.memory.Total() < b.memory.Total();
  }
  return a.seconds->Total() < b.seconds->Total();
}

// A mesh whose activations do not fit is also tried with blocks that are computed again.
MeshPlan PlanThatFits(const Config& config, const KnownDevice& device, const MeshShape& mesh, double forward_flops) {
  const auto ranks = static_cast<int>(mesh.size());
  MeshPlan plan = PlanMesh(OnMesh(config, mesh, config.training.recompute), device, ranks, forward_flops);
  if (plan.fits || config.training.recompute == Recompute::kBlock) {
    return plan;
  }
  MeshPlan again = PlanMesh(OnMesh(config, mesh, Recompute::kBlock), device, ranks, forward_flops);
  return again.fits ? again : plan;
}

std::vector<MeshPlan> BestMeshes(const Config& config, const KnownDevice& device, int ranks, double forward_flops) {
  std::vector<MeshPlan> plans;
  for (int tensor = 1; tensor <= ranks; ++tensor) {
    for (int context = 1; ranks % tensor == 0 && context <= ranks / tensor; ++context) {
      if (ranks / tensor % context != 0) {
        continue;
      }
      const MeshShape mesh = {.data = ranks / tensor / context, .context = context, .tensor = tensor};
      if (WhyNotMesh(OnMesh(config, mesh, config.training.recompute), ranks).empty()) {
        plans.push_back(PlanThatFits(config, device, mesh, forward_flops));
      }
    }
  }
  std::stable_sort(plans.begin(), plans.end(), IsBetter);
  return plans;
}

// The configured mesh, where the search has run it as configured.
std::optional<MeshPlan> Known(const std::vector<MeshPlan>& plans, const Config& config, int ranks) {
  const MeshShape mesh = MeshOf(config.parallel, ranks);
  const bool searched =
      OnMesh(config, mesh, config.training.recompute).parallel.sequence_parallel == config.parallel.sequence_parallel;
  for (const MeshPlan& plan : plans) {
    if (searched && plan.mesh == mesh && plan.recompute == config.training.recompute) {
      return plan;
    }
  }
  return std::nullopt;
}

// With a micro-batch size where it is open (auto): the largest that fits on every rank.
Config WithMicroBatch(const Config& open, const KnownDevice& device, int ranks) {
  Config config = open;
  if (config.training.micro_batch_size) {
    return config;
  }
  const MeshShape mesh = MeshOf(config.parallel, ranks);
  const auto fits = [&](int32_t size) {
    config.training.micro_batch_size = size;
    const std::vector<int> run = RanksToRun(mesh);
    return std::all_of(run.begin(), run.end(), [&](int rank) {
      const ImaginaryRun one = Imagine(config, {.ranks = ranks, .rank = rank, .three_micro_batches = true});
      return one.memory.Total() <= device.memory_bytes;
    });
  };
  config.training.micro_batch_size =
      LargestMicroBatch(static_cast<int32_t>(config.training.global_batch_size / mesh.data), fits);
  return config;
}

TableCell Milliseconds(const MeshPlan& plan, double seconds) {
  return plan.seconds ? TableCell(1e3 * seconds) : TableCell();
}

}  // namespace

const char* NameOf(Recompute recompute) {
  switch (recompute) {
    case Recompute::kNone:
      return "none";
    case Recompute::kAttention:
      return "attention";
    case Recompute::kMlp:
      return "mlp";
    case Recompute::kBlock:
      return "block";
  }
  return "unknown";
}

std::vector<int> RanksToRun(const MeshShape& mesh) {
  std::set<int64_t> contexts = {0, mesh.context / 2, mesh.context - 1};
  if (mesh.context > 1) {
    contexts.insert(1);
  }
  std::vector<int> ranks;
  for (const int64_t context : contexts) {
    ranks.push_back(static_cast<int>(context * mesh.tensor + mesh.tensor - 1));
  }
  return ranks;
}

MeshPlan PlanMesh(const Config& open, const KnownDevice& device, int ranks, double forward_flops) {
  MeshPlan plan = {.mesh = MeshOf(open.parallel, ranks), .recompute = open.training.recompute};
  const Config config = WithMicroBatch(open, device, ranks);
  double slowest = -1.0;
  for (const int rank : RanksToRun(plan.mesh)) {
    const ImaginaryRun run = Imagine(config, {.ranks = ranks, .rank = rank, .three_micro_batches = true});
    plan.micro_batches = run.micro_batches;
    if (run.memory.Total() > plan.memory.Total()) {
      plan.memory = run.memory;
    }
    const StepSeconds seconds = run.Seconds(device.figures);
    if (seconds.Total() > slowest) {
      slowest = seconds.Total();
      plan.counts = run.Counts();
      plan.seconds = seconds;
    }
  }
  plan.fits = plan.memory.Total() <= device.memory_bytes;
  if (!HasFigures(config)) {
    plan.seconds.reset();
    return plan;
  }
  plan.mfu = Mfu(forward_flops, slowest, device.figures.peak_flops * ranks);
  return plan;
}

void ResolveForGpu(Config& config) {
  config.run.device = DeviceChoice::kCuda;
  config.training.precision = config.training.precision.value_or(DType::kBF16);
  if (config.training.precision == DType::kF64) {
    Fail(ExitCode::kConfig, "training.precision: fp64 runs on the CPU alone; a GPU takes bf16 and fp32");
  }
}

RunPlan PlanRun(const Config& config, const KnownDevice& device, const PlanRequest& request) {
  const TrainingConfig& training = config.training;
  RunPlan plan = {.device = std::string(device.name), .ranks = request.ranks};
  plan.parameters = TotalParameters(config.model);
  plan.forward_flops_per_token = ForwardFlopsPerToken(config.model, training.sequence_length, MeanTargets(config));
  plan.keys_per_query = KeysPerTextQuery(config.model, training.sequence_length);
  plan.tokens_per_update = int64_t{training.global_batch_size} * training.sequence_length;
  plan.updates = training.max_steps;
  plan.checkpoint_bytes = 3 * plan.parameters * SizeOf(AccumulationType(*training.precision));
  const double forward_flops = plan.forward_flops_per_token * static_cast<double>(plan.tokens_per_update);
  plan.problem = fmt::format("{}", fmt::join(WhyNotMesh(config, request.ranks), "\n"));
  if (request.search) {
    plan.best = BestMeshes(config, device, request.ranks, forward_flops);
  }
  if (plan.problem.empty()) {
    plan.here = Known(plan.best, config, request.ranks);
    if (!plan.here) {
      plan.here = PlanMesh(config, device, request.ranks, forward_flops);
    }
  }
  return plan;
}

std::optional<double> RunPlan::Days() const {
  const MeshPlan* chosen = Chosen();
  if (chosen == nullptr || !chosen->seconds) {
    return std::nullopt;
  }
  return chosen->seconds->Total() * static_cast<double>(updates) / kSecondsADay;
}

double RunPlan::TokensPerSecond(const MeshPlan& mesh) const {
  return static_cast<double>(tokens_per_update) / mesh.seconds->Total();
}

Table MeshTable(const RunPlan& plan, size_t most) {
  Table table({{"data", "data"},
               {"context", "context"},
               {"tensor", "tensor"},
               {"recompute", "recompute"},
               {"step_ms", "step ms", 0},
               {"exposed_state_ms", "exposed: gradients, weights ms", 1},
               {"exposed_context_ms", "context ms", 1},
               {"exposed_tensor_ms", "tensor ms", 1},
               {"mfu_percent", "MFU %", 1},
               {"ktokens_per_second", "Ktokens/s", 0},
               {"ktokens_per_second_rank", "a rank", 1},
               {"memory_gib", "GiB a rank", 1},
               {"fits", "fits"}});
  for (const MeshPlan& mesh : std::span(plan.best).first(std::min(most, plan.best.size()))) {
    const StepSeconds seconds = mesh.seconds.value_or(StepSeconds());
    const auto exposed = [&](TrafficGroup group) { return Milliseconds(mesh, seconds.Of(group).exposed); };
    const TableCell tokens = mesh.seconds ? TableCell(1e-3 * plan.TokensPerSecond(mesh)) : TableCell();
    const TableCell each =
        mesh.seconds ? TableCell(1e-3 * plan.TokensPerSecond(mesh) / static_cast<double>(plan.ranks)) : TableCell();
    table.AddRow({mesh.mesh.data,
                  mesh.mesh.context,
                  mesh.mesh.tensor,
                  std::string(NameOf(mesh.recompute)),
                  Milliseconds(mesh, seconds.Total()),
                  exposed(TrafficGroup::kState),
                  exposed(TrafficGroup::kContext),
                  exposed(TrafficGroup::kTensor),
                  mesh.mfu ? TableCell(100.0 * *mesh.mfu) : TableCell(),
                  tokens,
                  each,
                  static_cast<double>(mesh.memory.Total()) / kGiB,
                  std::string(mesh.fits ? "yes" : "no")});
  }
  return table;
}

}  // namespace ksa
