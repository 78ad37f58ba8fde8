#include "trainer/commands/train.h"

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "parallel/comm/mpi.h"
#include "parallel/comm/nccl.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/commands/set_option.h"
#include "trainer/config/load.h"
#include "trainer/loop/keep_pools.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/loop/micro_batch_size.h"
#include "trainer/loop/ranks.h"
#include "trainer/loop/trainer.h"
#include "trainer/run/exit_deadline.h"
#include "trainer/run/stop_signal.h"
#include "trainer/run/watchdog.h"

namespace ksa {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> sets;
  bool dry_run = false;
  std::optional<std::string> trace;
  Invocation invocation;
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();  // of the program
};

// The most that the end of a run may take once everything is saved and said, in seconds.
constexpr unsigned kMostTakeDown = 60;

// For errors that every rank throws alike: rank 0 speaks and ends the job, the others wait for that.
[[noreturn]] void EndTogether(const Error& error, Communicator& world, const std::string& host) {
  if (world.rank() > 0) {
    world.Barrier();
  }
  EndAllRanks(error, world.rank(), host);
}

// What the ranks settle before any of them computes: that they were given the same, where they compute, their mesh.
// Every error is thrown by all ranks alike.
void SettleOnAllRanks(
    LoadedConfig& loaded, const TrainOptions& options, Communicator& world, const RankPlace& own, Logger& logger) {
  CheckSameOnAllRanks(world, own.host, StartFacts(loaded.config));
  ResolveDeviceOfRanks(loaded.config, GatherPlaces(world, own));
  CheckAgainstRanks(loaded.config, world.size());
  if (world.rank() == 0) {
    for (const std::string& warning : loaded.warnings) {
      logger.Warn(fmt::format("{}: {}", options.config, warning));
    }
  }
}

// Says how the run ended while everything is still up: what takes it down may hang, and then the cause must be known
// and the exit code be right. An error among several ranks may be one rank's alone, and ends them all here.
void SayEnd(const RunEnd& end, Communicator& world, const std::string& host, Logger& logger, ColorChoice color) {
  if (end.failed && world.size() > 1) {
    EndAllRanks(Error(end.code, end.message), world.rank(), host, [&](const std::string& text) {
      logger.Record("error: " + text);
    });
  }
  if (!end.message.empty() && world.rank() == 0) {
    PrintError(end.message, color);
  }
  std::fflush(nullptr);
  EndWithin(kMostTakeDown, end.code);
}

// What is left of this rank's part of the host's memory when a run on the CPU has taken what is planned for it.
int64_t HostRoom(const Config& config, const Communicator& world, const RankPlace& place) {
  if (!config.checkpoint.async) {
    return 0;
  }
  const int64_t free = FreeBytes(DeviceChoice::kCpu, place.local_rank, place.local_size);
  return config.run.device == DeviceChoice::kCpu ? free - PlanMemory(config, world.size(), world.rank()).Total() : free;
}

// On a GPU memory is planned first, so that a run that does not fit ends here and not in the middle of a step.
ExitCode TrainOnDevice(Config& config,
                       const TrainOptions& options,
                       Communicator& world,
                       const RankPlace& place,
                       Watchdog& watchdog,
                       Logger& logger) {
  KeepPools(config, world);
  const int64_t free_bytes = FreeBytes(config.run.device, place.local_rank, place.local_size);
  const std::string micro_batch = ResolveMicroBatch(config, world, free_bytes);
  RuntimeOptions runtime_options = {.mesh = MeshOf(config.parallel, world.size()),
                                    .sequence_parallel = config.parallel.sequence_parallel,
                                    .ordinal = place.local_rank,
                                    .local_size = place.local_size,
                                    .threads = config.run.threads.value_or(0),
                                    .deterministic = config.run.deterministic};
  TrainerOptions trainer_options = {.dry_run = options.dry_run,
                                    .trace = options.trace,
                                    .memory_table = "",
                                    .micro_batch = micro_batch,
                                    .host = place.host,
                                    .invocation = options.invocation,
                                    .begin = options.begin};
  if (config.run.device == DeviceChoice::kCuda) {
    const MemoryPlan plan = PlanMemory(config, world.size(), world.rank());
    CheckFits(plan, QueryGpu(runtime_options.ordinal));
    runtime_options.device = DeviceKind::kCuda;
    runtime_options.device_bytes = plan.ArenaBytes();
    trainer_options.memory_table = plan.Table();
  }
  trainer_options.host_room = HostRoom(config, world, place);
  Runtime runtime(world, runtime_options);
  runtime.SetWatchdog(&watchdog);
  Trainer trainer(config, runtime, logger, std::move(trainer_options));
  const RunEnd end = trainer.Run();
  watchdog.Enter(Phase::kShutDown);
  SayEnd(end, world, place.host, logger, options.invocation.color);
  return end.code;
}

ExitCode Train(const TrainOptions& options) {
  if (options.dry_run) {
    ObeyStopSignals();
  }
  LoadedConfig loaded = LoadConfig(options.config, options.sets);
  Watchdog watchdog(WatchdogSeconds());
  const MpiSession mpi;
  const std::unique_ptr<Communicator> world = mpi.World();
  const RankPlace place = {.host = MpiSession::HostName(),
                           .local_rank = mpi.local_rank(),
                           .local_size = mpi.local_size(),
                           .gpus = GpuCount()};
  Logger logger(world->rank(), options.invocation.color);
  watchdog.SetRank(world->rank(), place.host);
  watchdog.SetPoll(PollNcclErrors);
  world->SetObserver(&watchdog);
  try {
    ThrowAsErrors([&] { SettleOnAllRanks(loaded, options, *world, place, logger); });
  } catch (const Error& error) {
    if (world->size() == 1) {
      throw;
    }
    EndTogether(error, *world, place.host);
  }
  ExitCode code = ExitCode::kDone;
  try {
    watchdog.Enter(Phase::kSetUp);
    ThrowAsErrors([&] { code = TrainOnDevice(loaded.config, options, *world, place, watchdog, logger); });
  } catch (const Error& error) {
    watchdog.Enter(Phase::kShutDown);
    if (world->size() == 1) {
      throw;
    }
    EndAllRanks(error, world->rank(), place.host);
  }
  return code;
}

}  // namespace

void AddTrainCommand(CLI::App& app, const Invocation& invocation, CommandResult& result) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "Pretrain a model, or resume where the run folder stands");
  command->add_option("config", options->config, "run configuration (YAML)")->required()->type_name("CONFIG");
  AddSetOption(*command, options->sets, "replace a value: key=value, as often as needed");
  command->add_flag("--dry-run",
                    options->dry_run,
                    "everything up to update 1, then three updates in memory and an estimate; writes nothing");
  command->add_option("--trace", options->trace, "write a Chrome trace of the third update to FILE")->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  ksa train configs/train/quickstart.yaml\n"
      "  ksa train configs/train/ksa_1b9_8k.yaml --dry-run --trace step.json\n"
      "  ksa train configs/train/quickstart.yaml --set optimizer.lr=1e-3 --set run.name=lower\n"
      "  mpirun -np 2 --bind-to none ksa train configs/train/quickstart.yaml\n"
      "The same line again resumes from the newest checkpoint that verifies. A stop ends the run after the current\n"
      "update, with a checkpoint: Ctrl-C, SIGHUP or a file STOP in the run folder with exit code 86; SIGUSR1, SIGTERM\n"
      "or run.max_wall_minutes with 85 (start it again). A file SAVE asks for a checkpoint, and training goes on.\n"
      "KSA_WATCHDOG_SECONDS (600; 0: never): a rank that makes no progress for so long says where it hangs and ends "
      "the "
      "job\nwith exit code 75; set-up, checkpoints and shutdown may take three times as long.");
  command->callback([options, &invocation, &result] {
    options->invocation = invocation;
    result.prints_result = options->dry_run;  // else log.txt is the record
    result.code = Train(*options);
  });
}

}  // namespace ksa
