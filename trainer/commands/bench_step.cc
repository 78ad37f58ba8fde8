// `ksa bench step`: whole training steps of a model on random tokens.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "model/ksa/cost.h"
#include "parallel/comm/mpi.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_inputs.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/option_values.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/load.h"
#include "trainer/config/problems.h"
#include "trainer/config/rules.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/observe/device_peaks.h"
#include "trainer/step/host_memory.h"
#include "trainer/step/runtime.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa bench step --model configs/model/ksa_36m.yaml --sequence-length 1024 4096 --threads 2
  ksa bench step --model configs/model/ksa_36m.yaml --sequence-length 4096 --with-full --json step.json
  ksa bench step --model configs/model/ksa_4m.yaml --sequence-length 256 --micro-batch-size 8 --recompute block
  mpirun -np 2 ksa bench step --model configs/model/ksa_1b9.yaml --sequence-length 131072 --context 2 --recompute block

A step is forward, loss, backward, clipping and AdamW, as `ksa train` runs it. Useful operations are those of MFU: three
times the forward pass over live rows, visible pairs and the head. `growth` is what anonymous memory gained between
step 3 and the last one.)";

// The first steps take memory from the system and are not timed.
constexpr int kWarmUpSteps = 3;

struct StepOptions {
  std::string model;
  std::vector<std::string> sets;
  std::vector<int32_t> sequence_lengths;
  int32_t micro_batch_size = 1;
  int32_t micro_batches = 1;  // a data rank and step
  ParallelConfig parallel;    // data: what the ranks leave
  bool no_sequence_parallel = false;
  DeviceOption device;
  std::optional<DType> precision;  // none: fp32 on the CPU, bf16 on a GPU
  Recompute recompute = Recompute::kNone;
  int steps = 5;
  bool with_full = false;
  std::optional<std::string> json;
};

struct StepRun {
  std::string device;
  int threads = 1;
  std::string pattern;
  int32_t length = 0;
  double tokens = 0.0;  // a step
  double flops = 0.0;   // of a forward pass, a rank
  std::string mesh;     // data x context x tensor
  double keys = 0.0;    // a text query
  int64_t parameters = 0;
  Timing time;
  Timing forward_backward;           // forward, loss and backward alone
  double comm_ms = 0.0;              // that a step's end waited for other ranks, the mean of the timed steps
  std::optional<double> peak_flops;  // of the device, a second
  double first_loss = 0.0;
  int64_t peak_memory = 0;
  int64_t growth = 0;  // of anonymous memory

  [[nodiscard]] double TokensPerSecond() const { return tokens / (time.median * 1e-3); }
};

// What `ksa train` would say about the mesh of a run of this length on these ranks, one problem an entry.
std::vector<std::string> ProblemsOfMesh(const StepOptions& options, int32_t length, int ranks) {
  Config config;
  config.model = LoadModelConfig(options.model, length, options.sets);
  config.parallel = options.parallel;
  // The micro-batches are a data rank's, so no number of data ranks is wrong: a batch that every one of them divides.
  config.training = {.sequence_length = length, .global_batch_size = ranks};
  return WhyNotMesh(config, ranks);
}

// Of all lengths before the first one runs. Error(kUsage): here options give the mesh, not a file.
void CheckMeshes(const StepOptions& options, int ranks) {
  for (const int32_t length : options.sequence_lengths) {
    if (const std::vector<std::string> problems = ProblemsOfMesh(options, length, ranks); !problems.empty()) {
      Fail(ExitCode::kUsage, "{}", fmt::join(problems, "\n"));
    }
  }
}

StepRun RunSteps(const StepOptions& options,
                 const RankOfCommand& rank,
                 const ModelConfig& model_config,
                 const std::string& pattern,
                 int32_t length) {
  Communicator& world = rank.world;
  RuntimeOptions runtime_options = options.device.Options(options.precision.value_or(DType::kF32));
  runtime_options.mesh = MeshOf(options.parallel, world.size());
  runtime_options.sequence_parallel = options.parallel.sequence_parallel;
  runtime_options.ordinal = rank.mpi.local_rank();
  runtime_options.local_size = rank.mpi.local_size();
  const int64_t data_ranks = runtime_options.mesh->data;
  const int32_t samples = options.micro_batch_size * options.micro_batches;  // a data rank
  const bool gpu = runtime_options.device == DeviceKind::kCuda;
  Config config;
  config.model = model_config;
  config.training = {.sequence_length = length,
                     .global_batch_size = static_cast<int32_t>(samples * data_ranks),
                     .micro_batch_size = options.micro_batch_size,
                     .max_steps = options.steps,
                     .precision = options.precision.value_or(gpu ? DType::kBF16 : DType::kF32),
                     .recompute = options.recompute};
  config.optimizer.lr = 1e-4;
  config.parallel = options.parallel;
  if (gpu) {
    const MemoryPlan plan = PlanMemory(config, world.size(), world.rank());
    CheckFits(plan, QueryGpu(runtime_options.ordinal));
    runtime_options.device_bytes = plan.ArenaBytes();
  }
  Runtime runtime(world, runtime_options);
  runtime.SetWatchdog(&rank.watchdog);
  const ProcessMesh& mesh = runtime.mesh();
  TrainingState state(config.model, config.training, config.optimizer, ShardingOf(options.parallel, mesh), runtime);
  state.store.Initialize(1234, runtime.stream());
  const Batch batch = RandomBatch(model_config, int64_t{samples} * mesh.Rank(MeshAxis::kData), samples, length);

  StepRun run = {
      .device = DeviceName(runtime), .threads = runtime.stream().threads, .pattern = pattern, .length = length};
  int64_t update = 0;
  const auto step = [&] {
    ++update;
    const UpdateOutcome outcome = state.updater.Run(batch, update, config.optimizer.lr);
    if (!outcome.finite) {
      Fail(ExitCode::kDiverged, "step {} is not finite (loss {})", update, outcome.loss);
    }
    run.comm_ms += update < kWarmUpSteps ? 0.0 : outcome.comm_ms;
    run.first_loss = update == 1 ? outcome.loss : run.first_loss;
  };
  while (update < kWarmUpSteps - 1) {
    step();
  }
  int64_t anonymous = 0;
  run.time = Measure(options.steps, runtime.stream(), [&] {
    step();
    anonymous = update == kWarmUpSteps ? AnonymousBytes() : anonymous;
  });
  run.comm_ms /= static_cast<double>(update - (kWarmUpSteps - 1));
  run.growth = AnonymousBytes() - anonymous;
  run.peak_memory = runtime.allocator().use().peak;
  if (runtime.gpu().has_value()) {
    run.peak_flops = PeakFlops(runtime.gpu()->name, *config.training.precision);
  }
  run.forward_backward = Measure(options.steps, runtime.stream(), [&] { state.updater.RunGradients(batch); });
  run.parameters = state.store.element_count();
  run.mesh = fmt::format("{}x{}x{}", mesh.shape().data, mesh.shape().context, mesh.shape().tensor);
  run.tokens = static_cast<double>(batch.target_count * data_ranks);
  run.flops = CountForwardFlops(model_config, MakeLayout(model_config, samples, length)).Total() /
              static_cast<double>(mesh.shape().context * mesh.shape().tensor);
  run.keys = KeysPerTextQuery(model_config, length);
  return run;
}

// n/a: NaN, which the table knows.
double Percent(std::optional<double> share) {
  return share.has_value() ? 100.0 * *share : std::nan("");
}

void AddRow(const StepRun& run, Table& table) {
  table.AddRow({run.pattern,
                run.mesh,
                int64_t{run.length},
                run.parameters,
                run.keys,
                run.TokensPerSecond(),
                run.time.median,
                run.time.least,
                run.forward_backward.median,
                run.comm_ms,
                run.tokens / (run.forward_backward.median * 1e-3),
                3.0 * run.flops / (run.time.median * 1e-3) * 1e-12,
                Percent(Mfu(run.flops, run.time.median * 1e-3, run.peak_flops)),
                Percent(Mfu(run.flops, run.forward_backward.median * 1e-3, run.peak_flops)),
                run.first_loss,
                static_cast<double>(run.peak_memory) / (1 << 20),
                static_cast<double>(run.growth) / (1 << 20)});
}

void BenchStep(StepOptions options, const RankOfCommand& rank) {
  Communicator& world = rank.world;
  options.parallel.sequence_parallel = options.parallel.tensor > 1 && !options.no_sequence_parallel;
  CheckMeshes(options, world.size());
  BenchReport report = {"step",
                        {},  // the runs tell
                        1,
                        Table({{"pattern", "model", 0},
                               {"mesh", "mesh", 0},
                               {"text_tokens", "T", 0},
                               {"parameters", "parameters", 0},
                               {"keys_a_query", "keys/query", 0},
                               {"tokens_per_second", "tokens/s", 1},
                               {"milliseconds", "step ms", 1},
                               {"milliseconds_min", "min", 1},
                               {"forward_backward_milliseconds", "fwd+bwd ms", 1},
                               {"comm_wait_milliseconds", "comm wait ms", 2},
                               {"forward_backward_tokens_per_second", "fwd+bwd tokens/s", 1},
                               {"useful_tflops", "TFLOP/s", 3},
                               {"mfu", "MFU %", 1},
                               {"forward_backward_mfu", "fwd+bwd MFU %", 1},
                               {"first_loss", "first loss", 4},
                               {"memory_mib", "peak MiB", 1},
                               {"memory_growth_mib", "growth MiB", 2}}),
                        {}};
  for (const int32_t length : options.sequence_lengths) {
    const ModelConfig model = LoadModelConfig(options.model, length, options.sets);
    const StepRun run = RunSteps(options, rank, model, "as given", length);
    report.device = run.device;
    report.threads = run.threads;
    AddRow(run, report.table);
    if (options.with_full) {
      std::vector<std::string> sets = options.sets;
      sets.emplace_back("model.attention.pattern=[full]");
      const StepRun full =
          RunSteps(options, rank, LoadModelConfig(options.model, length, sets), "full attention", length);
      AddRow(full, report.table);
      report.findings.push_back({fmt::format("speedup_{}", length),
                                 fmt::format("tokens/s over those with full attention at {} tokens: {{:.2f}}", length),
                                 run.TokensPerSecond() / full.TokensPerSecond()});
    }
  }
  if (world.rank() == 0) {
    Publish(report, options.json);
  }
}

}  // namespace

void AddBenchStepCommand(CLI::App& bench) {
  const auto options = std::make_shared<StepOptions>();
  CLI::App* command = bench.add_subcommand("step", "Training steps of a model on random tokens");
  command->add_option("--model", options->model, "model configuration (YAML)")->required()->type_name("FILE");
  AddSetOption(*command, options->sets, "replace a value: model.key=value, as often as needed");
  command->add_option("--sequence-length", options->sequence_lengths, "text tokens of a sequence, one or several")
      ->required()
      ->check(WholeNumber(1, 1 << 24));
  command->add_option("--micro-batch-size", options->micro_batch_size, "sequences a forward pass")
      ->check(WholeNumber(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--micro-batches", options->micro_batches, "forward and backward passes a step")
      ->check(WholeNumber(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--tensor", options->parallel.tensor, "tensor ranks")
      ->check(WholeNumber(1, 1 << 10))
      ->capture_default_str();
  command->add_option("--context", options->parallel.context, "context ranks")
      ->check(WholeNumber(1, 1 << 10))
      ->capture_default_str();
  command->add_option("--zero", options->parallel.zero, "1: ranks share the optimizer's state")
      ->check(WholeNumber(0, 1))
      ->capture_default_str();
  command->add_flag(
      "--no-sequence-parallel", options->no_sequence_parallel, "tensor ranks hold all rows between products");
  AddDeviceOption(*command, options->device);
  command->add_option("--precision", options->precision, "what to compute in")
      ->transform(Choice<DType>({{"fp32", DType::kF32}, {"bf16", DType::kBF16}, {"fp64", DType::kF64}}))
      ->default_str("fp32 on the CPU, bf16 on a GPU");
  command->add_option("--recompute", options->recompute, "activations that backward computes again")
      ->transform(Choice<Recompute>({{"none", Recompute::kNone},
                                     {"attention", Recompute::kAttention},
                                     {"mlp", Recompute::kMlp},
                                     {"block", Recompute::kBlock}}))
      ->default_str("none");
  command->add_option("--steps", options->steps, "steps to take the median of")
      ->check(WholeNumber(1, 100000))
      ->capture_default_str();
  command->add_flag("--with-full", options->with_full, "also run the same model with full attention in every layer");
  command->add_option("--json", options->json, "also write the results to this file")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options] { RunOnRanks([&](const RankOfCommand& rank) { BenchStep(*options, rank); }); });
}

}  // namespace ksa
