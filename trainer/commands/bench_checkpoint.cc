// `ksa bench checkpoint`: what a checkpoint costs a run, written at once and beside training.
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/async_saver.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_inputs.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/device_option.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/commands/scratch_folder.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/step/host_memory.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa bench checkpoint --model configs/model/ksa_4m.yaml --sequence-length 256
  ksa bench checkpoint --model configs/model/ksa_36m.yaml --sequence-length 1024 --folder . --json checkpoint.json
  mpirun -np 2 --bind-to none ksa bench checkpoint --model configs/model/ksa_4m.yaml --sequence-length 256

`blocked` is what training waits for one checkpoint in all, `save` passes until it is on the disk, `slowdown` is that of
the updates that follow (of an asynchronous one: while it is being written), against the median before. `host peak` is
what resident memory rises above what it was, without pinned memory, which is taken at the start (`taken`). One
checkpoint is on the disk at a time. Files lie in a folder of their own in --folder, and go.)";

struct CheckpointOptions {
  std::string model;
  std::vector<std::string> sets;
  int32_t sequence_length = 0;
  int32_t micro_batch_size = 1;
  int steps = 5;
  std::string folder = TemporaryFolder();
  DeviceOption device;
  std::optional<std::string> json;
};

using Clock = std::chrono::steady_clock;

double MillisecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

struct Measured {
  std::string mode;
  double blocked = 0;  // ms
  double save = 0;     // ms
  double step = 0;     // ms, before
  double following = 0;
  int64_t host_peak = 0;  // bytes above what was resident before
};

// Updates of a model on this rank, one checkpoint folder for all ranks.
class CheckpointBench {
 public:
  CheckpointBench(const CheckpointOptions& options, const RankOfCommand& rank, Config config, const std::string& folder)
      : options_(options),
        world_(rank.world),
        config_(std::move(config)),
        runtime_(world_, RuntimeOf(options, rank, config_)),
        state_(config_.model,
               config_.training,
               config_.optimizer,
               ShardingOf(config_.parallel, runtime_.mesh()),
               runtime_) {
    runtime_.SetWatchdog(&rank.watchdog);
    state_.store.Initialize(1234, runtime_.stream());
    const int32_t samples = options.micro_batch_size;
    batch_ = RandomBatch(
        config_.model, int64_t{samples} * runtime_.mesh().Rank(MeshAxis::kData), samples, options.sequence_length);
    save_.folder = folder + "/checkpoints";
    save_.keep_last = 1;
    save_.checked = &checked_;
    for (int i = 0; i < 3; ++i) {  // the first ones take memory and choose algorithms
      static_cast<void>(Step());
    }
  }

  [[nodiscard]] Measured Synchronous() {
    Measured result = Before("synchronous");
    const Clock::time_point begin = Clock::now();
    runtime_.Enter(Phase::kCheckpoint);
    const std::string path = SaveCheckpoint(state_.store, world_, Meta(), save_, runtime_.stream());
    result.blocked = result.save = MillisecondsSince(begin);
    OnRankZero(world_, [&] {
      RemoveAll(path);
      return std::string();
    });
    std::vector<double> times;
    for (int i = 0; i < options_.steps; ++i) {
      times.push_back(Step());
    }
    return After(result, times);
  }

  [[nodiscard]] Measured Asynchronous() {
    const Clock::time_point open = Clock::now();
    AsyncSaver saver(state_.store, world_, runtime_.stream());
    state_.optimizer.SetBeforeChange([&] { saver.HoldBack(); });
    taken_ms_ = MillisecondsSince(open);
    Measured result = Before("asynchronous");
    const Clock::time_point begin = Clock::now();
    runtime_.Enter(Phase::kCheckpoint);
    saver.Begin(Meta(), save_);
    result.blocked = MillisecondsSince(begin);
    std::vector<double> times;
    while (saver.pending()) {
      times.push_back(Step());
      const Clock::time_point look = Clock::now();
      const bool over = world_.Sum(int64_t{saver.StageIsOver() ? 1 : 0}) == world_.size();
      if (over && saver.Advance()) {
        result.save = MillisecondsSince(begin);
      }
      result.blocked += MillisecondsSince(look);
    }
    while (times.size() < static_cast<size_t>(options_.steps)) {
      times.push_back(Step());
    }
    result = After(result, times);
    state_.optimizer.SetBeforeChange({});
    return result;
  }

  [[nodiscard]] const Runtime& runtime() const { return runtime_; }

  [[nodiscard]] int64_t checkpoint_bytes() const { return CheckpointBytes(state_.store); }

  [[nodiscard]] int64_t copy_bytes() const { return AsyncSaver::BytesOf(state_.store); }

  [[nodiscard]] double taken_ms() const { return taken_ms_; }

 private:
  static RuntimeOptions RuntimeOf(const CheckpointOptions& options, const RankOfCommand& rank, const Config& config) {
    RuntimeOptions runtime = options.device.Options(*config.training.precision);
    runtime.mesh = MeshOf(config.parallel, rank.world.size());
    runtime.ordinal = rank.mpi.local_rank();
    runtime.local_size = rank.mpi.local_size();
    if (runtime.device == DeviceKind::kCuda) {
      const MemoryPlan plan = PlanMemory(config, rank.world.size(), rank.world.rank());
      CheckFits(plan, QueryGpu(runtime.ordinal));
      runtime.device_bytes = plan.ArenaBytes();
    }
    return runtime;
  }

  // An update, and what it took.
  double Step() {
    ++update_;
    runtime_.BeginUpdate(update_);
    const Clock::time_point begin = Clock::now();
    if (!state_.updater.Run(batch_, update_, config_.optimizer.lr).finite) {
      Fail(ExitCode::kDiverged, "step {} is not finite", update_);
    }
    return MillisecondsSince(begin);
  }

  [[nodiscard]] CheckpointMeta Meta() const {
    CheckpointMeta meta;
    meta.run_id = "00000000000000be";
    meta.step = update_;
    meta.mesh = runtime_.mesh().shape();
    return meta;
  }

  [[nodiscard]] Measured Before(const std::string& mode) {
    std::vector<double> times;
    for (int i = 0; i < options_.steps; ++i) {
      times.push_back(Step());
    }
    peak_known_ = ResetPeakResident();
    resident_ = ResidentBytes();
    return {.mode = mode, .step = Median(times)};
  }

  [[nodiscard]] Measured After(Measured result, const std::vector<double>& times) const {
    result.following = Median(times);
    result.host_peak = peak_known_ ? std::max<int64_t>(0, PeakResidentBytes() - resident_) : -1;
    return result;
  }

  const CheckpointOptions& options_;
  Communicator& world_;
  Config config_;
  Runtime runtime_;
  TrainingState state_;
  Batch batch_;
  SaveOptions save_;
  CheckedCheckpoints checked_;
  int64_t update_ = 0;
  int64_t resident_ = 0;
  bool peak_known_ = false;
  double taken_ms_ = 0;
};

Config ConfigOf(const CheckpointOptions& options, int ranks) {
  Config config;
  config.model = LoadModelConfig(options.model, options.sequence_length, options.sets);
  const bool gpu = options.device.Options(DType::kF32).device == DeviceKind::kCuda;
  config.run.device = gpu ? DeviceChoice::kCuda : DeviceChoice::kCpu;
  config.training = {.sequence_length = options.sequence_length,
                     .global_batch_size = options.micro_batch_size * ranks,
                     .micro_batch_size = options.micro_batch_size,
                     .max_steps = 1000,
                     .precision = gpu ? DType::kBF16 : DType::kF32};
  config.optimizer.lr = 1e-5;
  return config;
}

void AddRow(const Measured& measured, Table& table) {
  const TableCell peak =
      measured.host_peak < 0 ? TableCell{} : TableCell{static_cast<double>(measured.host_peak) / (1 << 20)};
  table.AddRow({measured.mode,
                measured.blocked,
                measured.save,
                measured.step,
                measured.following,
                100.0 * (measured.following / measured.step - 1.0),
                peak});
}

void BenchCheckpoint(const CheckpointOptions& options, const RankOfCommand& rank) {
  Communicator& world = rank.world;
  std::unique_ptr<ScratchFolder> scratch;
  const std::string folder = OnRankZero(world, [&] {
    scratch = std::make_unique<ScratchFolder>(options.folder);
    return scratch->path();
  });
  CheckpointBench bench(options, rank, ConfigOf(options, world.size()), folder);
  BenchReport report = {"checkpoint",
                        DeviceName(bench.runtime()),
                        bench.runtime().stream().threads,
                        Table({{"mode", "save", 0},
                               {"blocked_milliseconds", "blocked ms", 1},
                               {"save_milliseconds", "save ms", 1},
                               {"milliseconds", "step ms", 1},
                               {"following_milliseconds", "following ms", 1},
                               {"slowdown_percent", "slowdown %", 1},
                               {"host_peak_mib", "host peak MiB", 1}}),
                        {}};
  const Measured synchronous = bench.Synchronous();
  const Measured asynchronous = bench.Asynchronous();
  AddRow(synchronous, report.table);
  AddRow(asynchronous, report.table);
  const double mib = 1 << 20;
  report.findings = {
      {"checkpoint_mib", "MiB of a checkpoint: {:.1f}", static_cast<double>(bench.checkpoint_bytes()) / mib},
      {"copy_mib", "MiB of rank 0's copy: {:.1f}", static_cast<double>(bench.copy_bytes()) / mib},
      {"taken_milliseconds", "ms until its memory was taken, at the start: {:.1f}", bench.taken_ms()},
      {"blocked_share", "blocked, of a synchronous save: {:.4f}", asynchronous.blocked / synchronous.blocked}};
  if (world.rank() == 0) {
    Publish(report, options.json);
  }
  world.Barrier();  // nobody removes the folder while others write
}

}  // namespace

void AddBenchCheckpointCommand(CLI::App& bench) {
  const auto options = std::make_shared<CheckpointOptions>();
  CLI::App* command = bench.add_subcommand("checkpoint", "What a checkpoint costs, at once and beside training");
  command->add_option("--model", options->model, "model configuration (YAML)")->required()->type_name("FILE");
  AddSetOption(*command, options->sets, "replace a value: model.key=value, as often as needed");
  command->add_option("--sequence-length", options->sequence_length, "text tokens of a sequence")
      ->required()
      ->check(WholeNumber(1, 1 << 24));
  command->add_option("--micro-batch-size", options->micro_batch_size, "sequences a rank and update")
      ->check(WholeNumber(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--steps", options->steps, "updates to take medians of, at least")
      ->check(WholeNumber(1, 100000))
      ->capture_default_str();
  command->add_option("--folder", options->folder, "folder, on the disk that is to be measured")
      ->type_name("DIR")
      ->default_str("TMPDIR");
  AddDeviceOption(*command, options->device);
  command->add_option("--json", options->json, "also write the results to this file")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options] { RunOnRanks([&](const RankOfCommand& rank) { BenchCheckpoint(*options, rank); }); });
}

}  // namespace ksa
