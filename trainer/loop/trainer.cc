#include "trainer/loop/trainer.h"

#include <algorithm>
#include <filesystem>
#include <thread>
#include <utility>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/shards/bus_guard.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/run_tokenizer.h"
#include "trainer/config/load.h"
#include "trainer/interop/export_hf.h"
#include "trainer/interop/load_weights.h"
#include "trainer/loop/dry_run.h"
#include "trainer/loop/end_summary.h"
#include "trainer/loop/ranks.h"
#include "trainer/loop/schedule_jump.h"
#include "trainer/loop/summarize_run.h"
#include "trainer/loop/summary.h"
#include "trainer/observe/log_header.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/trace.h"

namespace ksa {
namespace {

// A save's speed until one was made: slow, so that a run that has little time left does not begin one too late.
constexpr double kFirstSaveBytesASecond = 100e6;

// Work of rank 0 that may fail: then all ranks throw what it threw.
void OnLeader(Communicator& world, const std::function<void()>& work) {
  static_cast<void>(OnRankZero(world, [&] {
    work();
    return std::string();
  }));
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

Trainer::Trainer(const Config& config, Runtime& runtime, Logger& logger, TrainerOptions options)
    : config_(config), runtime_(runtime), options_(std::move(options)), paths_(config.run.dir), logger_(logger) {}

RunEnd Trainer::Run() {
  RunEnd end;
  try {
    ThrowAsErrors([&] { end = RunAll(); });
  } catch (const Error& error) {
    end = {.code = error.code(), .message = error.what(), .failed = true};
  }
  Finish(end);
  return end;
}

RunEnd Trainer::RunAll() {
  Open();
  {
    const Start start = Decide();  // holds manifests, which nobody needs while training
    LoadState(start);
    Commit(start);
    Announce(start);
    done_ = start.step();
    resumed_from_ = start.resumed_from;
    if (start.checkpoint) {
      const CheckpointMeta& meta = start.checkpoint->manifest.meta;
      skips_ = {meta.recent_grad_norms, meta.skips_in_a_row};
    }
    checkpoint_ = start.checkpoint ? start.checkpoint->path : "";
  }
  RunEnd end = RunUpdates();
  if (end.code == ExitCode::kDone && !end.failed && config_.checkpoint.export_hf && !options_.dry_run) {
    ExportLast();
  }
  return end;
}

// A folder of the last checkpoint. A start of a run that is complete finds it there.
void Trainer::ExportLast() {
  OnLeader(runtime_.world(), [&] {
    runtime_.Enter(Phase::kCheckpoint);
    const Checkpoint checkpoint = OpenCheckpoint(paths_.Checkpoints());
    const std::string folder =
        fmt::format("{}/export_hf/{}", paths_.folder(), CheckpointFolderName(checkpoint.manifest.meta.step));
    if (Exists(folder)) {
      return;
    }
    const ExportReport report = ExportHf(checkpoint, folder, {});
    for (const std::string& note : report.notes) {
      logger_.Info("checkpoint.export_hf: " + note);
    }
    logger_.Info(fmt::format("exported {} ({} of weights)", folder, FormatBytes(report.bytes)));
  });
}

void Trainer::Open() {
  if (config_.checkpoint.export_hf) {
    if (const std::vector<std::string> problems = LayoutProblems(config_.model, HfLayout::kOwn); !problems.empty()) {
      Fail(ExitCode::kConfig, "checkpoint.export_hf: {}", problems.front());
    }
  }
  dataset_ = std::make_unique<Dataset>(DatasetConfigOf(config_));
  CheckSameOnAllRanks(
      runtime_.world(), options_.host, {{"the fingerprint of the training data", dataset_->Fingerprint()}});
  state_ = std::make_unique<TrainingState>(
      config_.model, config_.training, config_.optimizer, ShardingOf(config_.parallel, runtime_.mesh()), runtime_);
  state_->updater.CountSources(static_cast<int64_t>(config_.data.train.size()));
  if (!options_.dry_run) {
    folder_ = std::make_unique<RunFolder>(
        config_.run.dir, runtime_.world(), [this](const std::string& line) { logger_.Warn(line); });
  }
}

Start Trainer::Decide() {
  Communicator& world = runtime_.world();
  if (dataset_->HasTokenizer()) {
    CheckTokenizerName(dataset_->TokenizerPath());
  }
  const DataFacts facts = {
      .fingerprint = dataset_->Fingerprint(),
      .check_tokenizer = [this](const Checkpoint& checkpoint) { return CheckTokenizer(checkpoint, *dataset_); },
      .check_folder =
          [this](const std::string& path) {
            const FolderTokenizer found = OpenTokenizerOfFolder(path);
            if (found.tokenizer != nullptr) {
              CheckTokenizerOf(path, found.path, *found.tokenizer, *dataset_);
            }
            return found.tokenizer != nullptr;
          }};
  Start start = DecideStart(config_, facts, paths_, world, &checked_);
  if (start.checkpoint) {
    std::string jump = OnRankZero(world, [&] { return ScheduleJump(config_, *start.checkpoint); });
    if (!jump.empty()) {
      start.warnings.push_back(std::move(jump));
    }
  }
  if (folder_ != nullptr && start.step() < LastUpdateOf(config_)) {
    OnLeader(world,
             [&] { CheckRoomForCheckpoint(paths_.Checkpoints(), CheckpointBytes(state_->store), folder_->run_id()); });
  }
  if (options_.trace.has_value()) {  // a path that cannot be written ends the run here, not after some updates
    OnLeader(world, [&] { ChromeTrace().Write(*options_.trace); });
  }
  return start;
}

// Part of what may refuse a start: a tensor that is damaged or of another shape.
void Trainer::LoadState(const Start& start) {
  OnAllRanks(runtime_.world(), [&] {
    const Stream& stream = runtime_.stream();
    if (!start.checkpoint) {
      state_->store.Initialize(config_.run.seed, stream);
    }
    runtime_.Enter(Phase::kLoad);
    const AdaptOptions adapt = {
        .new_parameters = config_.checkpoint.new_parameters, .seed = config_.run.seed, .threads = stream.threads};
    if (start.checkpoint) {
      LoadInto(state_->store, *start.checkpoint, LoadParts::kWeightsAndMoments, stream);
    } else if (start.weights) {
      load_notes_ = LoadFromCheckpoint(state_->store, *start.weights, adapt, stream);
    } else if (start.folder) {
      load_notes_ = LoadFromFolder(state_->store, config_.model, *start.folder, adapt, stream);
    }
    return std::string();
  });
}

void Trainer::Commit(const Start& start) {
  if (folder_ == nullptr) {
    return;
  }
  OnLeader(runtime_.world(), [&] {
    folder_->Commit(RenderConfig(config_), dataset_->TokenizerPath());
    AttachLog();
    records_ = std::make_unique<RunRecords>(*folder_, config_, logger_);
    SyncFolder(paths_.folder());
    if (start.record_first) {
      folder_->RecordFirstCheckpoint(start.step());
    }
  });
  if (runtime_.world().rank() > 0) {
    AttachLog();  // rank 0 has made the file
  }
  SetBusErrorLog(paths_.Log());
  const std::vector<std::string> hosts = runtime_.world().Gather(options_.host);
  if (Watchdog* watchdog = runtime_.watchdog(); watchdog != nullptr) {
    watchdog->SetLog(paths_.Log());
    if (hosts.size() > 1) {
      watchdog->SetStates(paths_.Ranks(), hosts);
    }
  }
}

void Trainer::AttachLog() {
  logger_.AttachFile(paths_.Log(),
                     LogHeader(options_.invocation,
                               {.host = options_.host,
                                .device = runtime_.gpu().has_value() ? runtime_.gpu()->name : "cpu",
                                .threads = runtime_.stream().threads,
                                .ranks = runtime_.world().size(),
                                .attempt = folder_->attempt()}));
}

void Trainer::Announce(const Start& start) {
  std::vector<std::string> warnings = start.warnings;
  if (folder_ != nullptr && !folder_->note().empty()) {
    warnings.push_back(folder_->note());
  }
  for (const std::string& warning : warnings) {
    if (runtime_.world().rank() == 0) {
      logger_.Warn(warning);
    }
  }
  for (const std::string& note : start.notes) {
    logger_.Info(note);
  }
  if (start.checkpoint) {
    logger_.Info(fmt::format("resumed from {}: {} updates done", start.checkpoint->path, start.step()));
  } else if (start.weights) {
    logger_.Info(fmt::format("weights of {}", start.weights->path));
  } else if (start.folder) {
    logger_.Info(fmt::format("weights of {}", *start.folder));
  }
  for (const std::string& note : load_notes_) {
    logger_.Info(note);
  }
  for (const std::string& line : StartSummary(config_, state_->store, *dataset_, runtime_)) {
    logger_.Info(line);
  }
  if (runtime_.world().size() > 1) {
    LogRanks();
  }
  if (!options_.micro_batch.empty()) {
    logger_.Info(options_.micro_batch);
  }
  if (!options_.memory_table.empty()) {
    logger_.Info("device memory, planned:\n" + options_.memory_table);
  }
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

RunEnd Trainer::RunUpdates() {
  UpdateSpan span = {.done = done_, .last = LastUpdateOf(config_), .traced = 0, .trace = "", .skips = skips_};
  if (options_.trace.has_value()) {
    // The third, as the first ones choose algorithms and load code; a dry run has timed that one.
    span.traced = std::min(done_ + (options_.dry_run ? kDryUpdates + 1 : 3), span.last);
    span.trace = *options_.trace;
  }
  if (options_.dry_run) {
    return RunInMemory(span);
  }
  const CommittedRun run = {.config = config_,
                            .runtime = runtime_,
                            .dataset = *dataset_,
                            .state = *state_,
                            .folder = *folder_,
                            .logger = logger_,
                            .records = records_.get(),
                            .checked = checked_,
                            .resumed_from = resumed_from_,
                            .span = span,
                            .host = options_.host,
                            .host_room = options_.host_room};
  const double first_save = static_cast<double>(CheckpointBytes(state_->store)) / kFirstSaveBytesASecond;
  loop_ = std::make_unique<TrainLoop>(run, WallLimit(config_.run.max_wall_minutes, options_.begin, first_save));
  RunEnd end = loop_->Run();
  Summarize(end);
  return end;
}

// It tells of what is done: nothing that it lacks is a reason to fail.
void Trainer::Summarize(const RunEnd& end) {
  if (runtime_.world().rank() != 0 || loop_->done() == 0) {
    return;
  }
  try {
    RunFigures figures = loop_->Figures();
    if (figures.checkpoint.empty()) {
      figures.checkpoint = checkpoint_;
    }
    const SummaryInput input = {.config = config_,
                                .dataset = *dataset_,
                                .invocation = options_.invocation,
                                .paths = paths_,
                                .figures = std::move(figures),
                                .updates = loop_->done(),
                                .stopped = end.code != ExitCode::kDone,
                                .ranks = runtime_.world().size()};
    for (const auto& [line, style] : RenderSummary(SummarizeRun(input))) {
      logger_.Info(line, style);
    }
  } catch (const Error& error) {
    logger_.Warn(fmt::format("no summary of the run: {}", error.what()));
  }
}

RunEnd Trainer::RunInMemory(const UpdateSpan& span) {
  if (span.done >= LastUpdateOf(config_)) {
    logger_.Info(fmt::format("the run is complete: {} updates done; there is none to try", span.done));
    return {};
  }
  DryRun(config_, runtime_, *dataset_, *state_, logger_, span, options_.host);
  return {};
}

// The cause is on record, and the folder free for the next start, before anything is taken down that may hang.
void Trainer::Finish(const RunEnd& end) noexcept {
  try {
    if (!end.message.empty()) {
      logger_.Record((end.failed ? "error: " : "") + end.message);
    }
    if (records_ != nullptr) {
      records_->Sync();
    }
  } catch (const std::exception&) {  // the disk is full: standard error has the message as well
  }
  if (folder_ != nullptr) {
    folder_->Release();
  }
}

}  // namespace ksa
