#include "trainer/loop/trainer.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <xxhash.h>

#include "trainer/config/load.h"
#include "trainer/loop/ranks.h"
#include "trainer/loop/summary.h"
#include "trainer/observe/device_peaks.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/metrics.h"
#include "trainer/observe/tensorboard.h"
#include "trainer/observe/trace.h"
#include "trainer/optim/schedule.h"

namespace ksa {
namespace {

// Going back in a folder that holds later updates would leave two histories there, and the next start would take the
// wrong one.
void RefuseLaterCheckpoints(const std::string& folder, const Checkpoint& given) {
  if (!std::filesystem::exists(folder)) {
    return;
  }
  for (const std::string& path : ListCheckpoints(folder)) {
    if (std::filesystem::path(path).filename() > CheckpointFolderName(given.manifest.meta.step)) {
      Fail(ExitCode::kCannotCreate,
           "checkpoint.resume goes back to {}, but the run folder holds {}; choose another run.dir, or move the later "
           "checkpoints away",
           given.path,
           path);
    }
  }
}

// Rank 0's records of a run.
struct Records {
  Records(const RunFolder& folder, const LoggingConfig& logging)
      : metrics(folder.MetricsPath(), folder.run_id(), folder.attempt()) {
    if (logging.tensorboard) {
      tensorboard.emplace(folder.TensorboardFolder());
    }
  }

  void Write(const StepReport& report) {
    metrics.Write(report);
    if (tensorboard.has_value()) {
      tensorboard->Write(report);
    }
  }

  MetricsWriter metrics;
  std::optional<TensorboardWriter> tensorboard;
};

std::optional<double> PeakOfRank(const Runtime& runtime, DType precision) {
  return runtime.gpu().has_value() ? PeakFlops(runtime.gpu()->name, precision) : std::nullopt;
}

}  // namespace

DatasetConfig DatasetConfigOf(const Config& config) {
  return {.train = config.data.train,
          .validation = config.data.validation,
          .document_mask = config.data.document_mask,
          .on_corrupt = config.data.on_corrupt,
          .sequence_length = config.training.sequence_length,
          .chunk_size = config.model.ChunkSize(),
          .vocab_size = config.model.vocab_size,
          .seed = config.run.seed};
}

Trainer::Trainer(const Config& config, Runtime& runtime, TrainerOptions options)
    : config_(config),
      runtime_(runtime),
      options_(std::move(options)),
      logger_(runtime.world().rank()),
      dataset_(DatasetConfigOf(config)),
      state_(config_.model, config_.training, config_.optimizer, ShardingOf(config.parallel, runtime.mesh()), runtime),
      evaluator_(runtime, state_.model, dataset_, config.training.micro_batch_size),
      peak_flops_(PeakOfRank(runtime, *config.training.precision)),
      flops_(config_.model) {
  CheckSameOnAllRanks(
      runtime_.world(), options_.host, {{"the fingerprint of the training data", dataset_.Fingerprint()}});
  if (!options_.dry_run) {
    OpenRunFolder();
  }
  if (options_.trace.has_value() && runtime_.world().rank() == 0) {
    ChromeTrace().Write(*options_.trace);  // a path that cannot be written ends the run here, not after some updates
  }
  Resume();
  started_ = done_;
}

void Trainer::OpenRunFolder() {
  folder_.emplace(config_.run.dir, runtime_.world());
  if (runtime_.world().rank() == 0) {
    logger_.AttachFile(folder_->LogPath());
    folder_->CopyTokenizer(dataset_.TokenizerPath());
  }
  const std::vector<std::string> hosts = runtime_.world().Gather(options_.host);
  if (Watchdog* watchdog = runtime_.watchdog(); watchdog != nullptr && hosts.size() > 1) {
    watchdog->SetStates(folder_->path() + "/ranks", hosts);
  }
}

// Where the run starts: a checkpoint of its own, the one it was told, the weights of another run, or initial weights.
void Trainer::Resume() {
  const CheckpointConfig& options = config_.checkpoint;
  const std::string own = config_.run.dir + "/checkpoints";
  if (options.resume == "auto" || options.resume == "never") {
    const FoundCheckpoint found = FindNewestCheckpoint(own, runtime_.world());
    for (const RefusedCheckpoint& refused : found.refused) {
      logger_.Warn(fmt::format("checkpoint {} is passed over: {}", refused.path, refused.reason));
    }
    if (found.found && options.resume == "never") {
      Fail(ExitCode::kCannotCreate,
           "checkpoint.resume is never, but {} holds checkpoints up to {}; choose another run.dir, or resume with auto",
           own,
           CheckpointFolderName(found.checkpoint.manifest.meta.step));
    }
    if (found.found) {
      AcceptCheckpoint(found.checkpoint);
      return;
    }
  } else {
    const Checkpoint given = OpenCheckpoint(options.resume, runtime_.world());
    RefuseLaterCheckpoints(own, given);
    AcceptCheckpoint(given);
    return;
  }
  state_.store.Initialize(config_.run.seed, runtime_.stream());
  if (options.load.has_value()) {
    const Checkpoint source = OpenCheckpoint(*options.load, runtime_.world());
    runtime_.Enter(Phase::kLoad);
    LoadInto(state_.store, source, LoadParts::kWeights, runtime_.stream());
    logger_.Info(fmt::format("weights of {}", source.path));
  }
}

void Trainer::AcceptCheckpoint(const Checkpoint& checkpoint) {
  const CheckpointMeta& meta = checkpoint.manifest.meta;
  const std::vector<ConfigDifference> differences =
      DiffConfigs(ParseConfig(meta.configuration, checkpoint.path + "/manifest.json").config, config_);
  for (const ConfigDifference& difference : differences) {
    logger_.Info(fmt::format(
        "changed since the checkpoint: {}: {} -> {}", difference.key, difference.old_value, difference.new_value));
  }
  CheckResume(differences);
  if (meta.data_fingerprint != dataset_.Fingerprint()) {
    Fail(ExitCode::kConfig,
         "the training data is not what {} was trained on: fingerprint {} there, {} now; restore the shards, or start "
         "a new run with checkpoint.load",
         checkpoint.path,
         meta.data_fingerprint,
         dataset_.Fingerprint());
  }
  runtime_.Enter(Phase::kLoad);
  LoadInto(state_.store, checkpoint, LoadParts::kWeightsAndMoments, runtime_.stream());
  done_ = meta.step;
  logger_.Info(fmt::format("resumed from {}: {} updates done", checkpoint.path, done_));
}

UpdateShare Trainer::Share() const {
  const ProcessMesh& mesh = runtime_.mesh();
  const int64_t count = config_.training.global_batch_size / mesh.shape().data;
  return {config_.training.global_batch_size, mesh.Rank(MeshAxis::kData) * count, count};
}

int64_t Trainer::LastUpdate() const {
  return std::min(config_.training.max_steps, config_.training.hard_stop.value_or(config_.training.max_steps));
}

// The third of this attempt, as the first ones choose algorithms and load code, or the last if there are fewer.
int64_t Trainer::TracedUpdate() const {
  const int64_t last = options_.dry_run ? started_ + 1 : LastUpdate();
  return std::min(started_ + 3, last);
}

double Trainer::LearningRateAt(int64_t update) const {
  return LearningRate(config_.optimizer, config_.schedule, config_.training.max_steps, update);
}

void Trainer::LogRanks() {
  Communicator& world = runtime_.world();
  const std::vector<std::string> hosts = world.Gather(options_.host);
  const std::vector<std::string> devices = world.Gather(
      runtime_.gpu().has_value() ? fmt::format("GPU {} {}", runtime_.stream().device.ordinal, runtime_.gpu()->name)
                                 : "cpu");
  for (const std::string& line : RankTable(hosts, devices, runtime_.mesh().shape())) {
    logger_.Info(line);
  }
}

void Trainer::LogSummary() {
  for (const std::string& line : StartSummary(config_, state_.store, dataset_, runtime_)) {
    logger_.Info(line);
  }
  if (runtime_.world().size() > 1) {
    LogRanks();
  }
  if (!options_.memory_table.empty()) {
    logger_.Info("device memory, planned:\n" + options_.memory_table);
  }
}

void Trainer::Run() {
  if (folder_.has_value() && runtime_.world().rank() == 0) {
    folder_->WriteConfig(RenderConfig(config_));
  }
  LogSummary();
  const int64_t last = LastUpdate();
  if (done_ >= last) {
    logger_.Info(fmt::format("the run is complete: {} of {} updates done", done_, config_.training.max_steps));
    return;
  }
  if (options_.dry_run) {
    RunOneInMemory();
    return;
  }
  RunUpdates(last);
}

int64_t Trainer::TokensAnUpdate() const {
  return int64_t{1} * config_.training.global_batch_size * config_.training.sequence_length;
}

// Ranks that share sequences read them each for itself. Where samples that touch a damaged block lose their targets, a
// shard that is damaged on one host only would make them train on different sums.
void Trainer::CheckSameTargets(const Batch& batch, int64_t update) {
  const ProcessMesh& mesh = runtime_.mesh();
  if (config_.data.on_corrupt != OnCorrupt::kSkip) {
    return;
  }
  const auto digest =
      static_cast<int64_t>(XXH3_64bits(batch.targets.data(), batch.targets.size() * sizeof(int32_t)) >> 1U);
  for (const MeshAxis axis : {MeshAxis::kContext, MeshAxis::kTensor}) {
    if (mesh.group(axis).Max(digest) != digest) {  // so on some rank, which ends all, unless all are equal
      Fail(
          ExitCode::kBadData,
          "update {}: ranks that share these sequences read different ones; rank {} on {} left out {} of {} samples "
          "that touch damaged blocks (data.on_corrupt: skip). A copy of a shard is damaged on some hosts only: compare "
          "`ksa data verify` there, and copy it anew",
          update,
          runtime_.world().rank(),
          options_.host,
          batch.corrupt_samples,
          batch.samples);
    }
  }
}

// The next update; counts it as done. The report lacks timing.
StepReport Trainer::RunOneUpdate(BatchStream& batches, Progress& progress) {
  const int64_t update = done_ + 1;
  runtime_.BeginUpdate(update);
  const Batch& batch = batches.Next();
  CheckSameTargets(batch, update);
  const double lr = LearningRateAt(update);
  const UpdateOutcome outcome = RunTraced(batch, update, lr);
  if (!outcome.finite) {
    FailDiverged(update, outcome);
  }
  done_ = update;
  // The batch is that of all ranks that share its sequences.
  const int ranks = runtime_.mesh().Size(MeshAxis::kContext) * runtime_.mesh().Size(MeshAxis::kTensor);
  progress.Add(batches.last_wait_ms(), outcome.comm_ms, peak_flops_.has_value() ? flops_.Forward(batch) / ranks : 0.0);
  return {.step = update,
          .max_steps = config_.training.max_steps,
          .tokens = update * TokensAnUpdate(),
          .loss = outcome.loss,
          .grad_norm = outcome.grad_norm,
          .lr = lr};
}

// One update; a trace of it is written when it is the one that was asked for.
UpdateOutcome Trainer::RunTraced(const Batch& batch, int64_t update, double lr) {
  if (!options_.trace.has_value() || update != TracedUpdate()) {
    return state_.updater.Run(batch, update, lr);
  }
  ChromeTrace trace;
  runtime_.SetTracer(&trace);
  const UpdateOutcome outcome = state_.updater.Run(batch, update, lr);
  runtime_.SetTracer(nullptr);
  if (runtime_.world().rank() == 0) {
    trace.Write(*options_.trace);
    logger_.Info(fmt::format("trace of update {}: {}", update, *options_.trace));
  }
  return outcome;
}

// Timing, memory and utilisation of a report about the updates since the last one.
void Trainer::FillReport(Progress& progress, StepReport& report) {
  progress.Fill(report);
  const MemoryStatus memory = runtime_.Memory();
  report.memory = memory.used;
  report.memory_total = memory.total;
}

void Trainer::RunOneInMemory() {
  BatchStream batches(dataset_, Share(), done_ + 1, done_ + 1);
  Progress progress(TokensAnUpdate(), done_ + 1, peak_flops_);
  StepReport report = RunOneUpdate(batches, progress);
  progress.Pause();
  FillReport(progress, report);
  logger_.Info(FormatLogLine(report));
  logger_.Info("dry run: one update done in memory, nothing written");
}

void Trainer::RunUpdates(int64_t last) {
  const bool leader = runtime_.world().rank() == 0;
  std::optional<Records> records;
  if (leader) {
    records.emplace(*folder_, config_.logging);
  }
  const StopSignal stop(folder_->StopPath());
  BatchStream batches(dataset_, Share(), done_ + 1, last);
  Progress progress(TokensAnUpdate(), last, peak_flops_);
  while (done_ < last) {
    StepReport report = RunOneUpdate(batches, progress);
    // Ranks see a request at different times: they stop together or not at all.
    const bool stopping = runtime_.world().Max(stop.Requested() ? 1 : 0) > 0;
    const bool ending = done_ == last || stopping;
    const int64_t evaluate = config_.evaluation.interval;
    progress.Pause();
    if (evaluate > 0 && (done_ % evaluate == 0 || done_ == last)) {
      report.validation_loss = evaluator_.RunAll(
          config_.evaluation.batches, config_.training.global_batch_size, AnnealMix(config_.model, done_));
    }
    if (leader && (ending || done_ % config_.logging.interval == 0 || !report.validation_loss.empty())) {
      FillReport(progress, report);
      records->Write(report);
      logger_.Step(report);
    }
    if (ending || done_ % config_.checkpoint.interval == 0) {
      Save(done_);
    }
    if (stopping && done_ < last) {
      FailStopped(stop);
    }
    progress.Continue();
  }
  logger_.Info(fmt::format("done: {} updates", done_));
}

void Trainer::FailStopped(const StopSignal& stop) const {
  const std::string reason = stop.Reason();
  if (runtime_.world().rank() == 0) {
    stop.Consume();
  }
  Fail(ExitCode::kStopped,
       "stopped after update {} by {}; run the same command again to go on",
       done_,
       reason.empty() ? "a request to another rank" : reason);
}

void Trainer::Save(int64_t update) {
  runtime_.Enter(Phase::kCheckpoint);
  const ProcessMesh& mesh = runtime_.mesh();
  const int64_t samples = update * config_.training.global_batch_size;
  const CheckpointMeta meta = {.run_id = folder_->run_id(),
                               .step = update,
                               .tokens = samples * config_.training.sequence_length,
                               .samples = samples,
                               .mesh = mesh.shape(),
                               .configuration = RenderConfig(config_),
                               .data_fingerprint = dataset_.Fingerprint()};
  const std::string path =
      SaveCheckpoint(state_.store,
                     runtime_.world(),
                     meta,
                     {.folder = folder_->CheckpointFolder(), .keep_last = config_.checkpoint.keep_last},
                     runtime_.stream());
  logger_.Info(fmt::format("checkpoint {}", path));
}

void Trainer::FailDiverged(int64_t update, const UpdateOutcome& outcome) const {
  const int64_t batch = config_.training.global_batch_size;
  Fail(ExitCode::kDiverged,
       "training diverged at update {}: loss {}, gradient norm {}, on samples {} to {} of the run; the update was not "
       "applied; lower optimizer.lr or look at these samples, then start again from the last checkpoint",
       update,
       outcome.loss,
       outcome.grad_norm,
       (update - 1) * batch,
       update * batch - 1);
}

}  // namespace ksa
