#include "trainer/loop/run_saves.h"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/config/load.h"
#include "trainer/observe/log_line.h"
#include "trainer/step/replicas.h"

namespace ksa {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

RunSaves::RunSaves(const CommittedRun& run, WallLimit& wall, std::function<SkipState()> skips)
    : run_(run), wall_(wall), skips_(std::move(skips)), saver_(run.config.checkpoint.retries, {}) {
  // The last one is always waited for: no memory is taken where none comes before.
  const int64_t interval = run.config.checkpoint.interval;
  if (run.config.checkpoint.async && (run.span.done / interval + 1) * interval < run.span.last) {
    OpenAsync();
  }
  saver_ = CheckpointSaver(run.config.checkpoint.retries, HooksOf());
}

RunSaves::~RunSaves() {
  run_.state.optimizer.SetBeforeChange({});
}

void RunSaves::OpenAsync() {
  Communicator& world = run_.runtime.world();
  const int64_t bytes = AsyncSaver::BytesOf(run_.state.store);
  if (world.Sum(int64_t{bytes <= run_.host_room ? 1 : 0}) < world.size()) {
    run_.logger.Info(fmt::format(
        "checkpoint.async: on some rank a copy of its state ({} on rank 0) does not fit into what is left of "
        "the host's memory ({} there): training waits for checkpoints",
        FormatBytes(bytes),
        FormatBytes(std::max<int64_t>(0, run_.host_room))));
    return;
  }
  const Clock::time_point begin = Clock::now();
  run_.runtime.Enter(Phase::kSetUp);
  if (!TakeCopy()) {
    return;
  }
  run_.state.optimizer.SetBeforeChange([this] { async_->HoldBack(); });
  run_.logger.Info(fmt::format("checkpoint.async: {} of {}host memory for a copy of the state, taken in {:.1f} s",
                               FormatBytes(bytes),
                               run_.runtime.gpu().has_value() ? "pinned " : "",
                               SecondsSince(begin)));
}

// Whether all ranks have the memory: a limit of a process may be lower than what its host has left.
bool RunSaves::TakeCopy() {
  Communicator& world = run_.runtime.world();
  std::string lacking = "on another rank";
  try {
    async_ = std::make_unique<AsyncSaver>(run_.state.store, world, run_.runtime.stream());
  } catch (const Error& error) {
    if (error.code() != ExitCode::kOutOfMemory) {
      throw;
    }
    lacking = error.what();
  }
  if (world.Sum(int64_t{async_ != nullptr ? 1 : 0}) == world.size()) {
    return true;
  }
  async_.reset();
  run_.logger.Info(
      fmt::format("checkpoint.async: the memory for a copy of the state cannot be taken ({}): training waits for "
                  "checkpoints",
                  lacking));
  return false;
}

CheckpointSaver::Hooks RunSaves::HooksOf() {
  CheckpointSaver::Hooks hooks = {.save = [this](int64_t update) { return Save(update); },
                                  .info = [this](const std::string& line) { run_.logger.Info(line); },
                                  .warn =
                                      [this](const std::string& line) {
                                        if (run_.runtime.world().rank() == 0) {
                                          run_.logger.Warn(line);
                                        }
                                      },
                                  .sleep = [this](int64_t seconds) { Sleep(seconds); }};
  if (async_ != nullptr) {
    hooks.begin = [this](int64_t update) { Begin(update); };
    hooks.advance = [this](bool wait) { return Advance(wait); };
  }
  return hooks;
}

bool RunSaves::After(int64_t update, const Wish& wish, bool ending) {
  // A save that is under way is no answer to who asks now.
  const bool asked = wish.save && (ending || !saver_.pending());
  asked_ = asked_ || asked;
  const bool wanted = ending || asked || update % run_.config.checkpoint.interval == 0;
  const bool saved = saver_.After(update, wanted, ending, wish.all_over);
  wall_.SavePending(saver_.pending());
  return saved && !saver_.pending() && std::exchange(asked_, false);
}

CheckpointMeta RunSaves::MetaOf(int64_t update) const {
  const int64_t samples = update * run_.config.training.global_batch_size;
  SkipState skips = skips_();
  return {.run_id = run_.folder.run_id(),
          .step = update,
          .tokens = samples * run_.config.training.sequence_length,
          .samples = samples,
          .mesh = run_.runtime.mesh().shape(),
          .configuration = RenderConfig(run_.config),
          .data_fingerprint = run_.dataset.Fingerprint(),
          .tokenizer = {},
          .resumed_from = run_.resumed_from,
          .recent_grad_norms = std::move(skips.norms),
          .skips_in_a_row = skips.in_a_row};
}

SaveOptions RunSaves::Options() const {
  SaveOptions options;
  options.folder = run_.folder.paths().Checkpoints();
  options.keep_last = run_.config.checkpoint.keep_last;
  options.keep_every = run_.config.checkpoint.keep_every;
  options.tokenizer_file = run_.folder.paths().TokenizerCopy(run_.dataset.TokenizerPath());
  options.before_commit = [this] { run_.records->Sync(); };
  options.warn = [this](const std::string& line) { run_.logger.Warn(line); };
  options.checked = &run_.checked;
  return options;
}

std::string RunSaves::Save(int64_t update) {
  const Clock::time_point begin = Clock::now();
  const Stream& stream = run_.runtime.stream();
  run_.runtime.Enter(Phase::kCheckpoint);
  CompareReplicas(run_.state.store, run_.runtime.mesh(), stream);  // no difference becomes a checkpoint
  const std::string path = SaveCheckpoint(run_.state.store, run_.runtime.world(), MetaOf(update), Options(), stream);
  return Saved(path, update, begin);
}

void RunSaves::Begin(int64_t update) {
  begin_ = Clock::now();
  begun_ = update;
  run_.runtime.Enter(Phase::kCheckpoint);
  CompareReplicas(run_.state.store, run_.runtime.mesh(), run_.runtime.stream());
  async_->Begin(MetaOf(update), Options());
}

std::optional<std::string> RunSaves::Advance(bool wait) {
  run_.runtime.Enter(Phase::kCheckpoint);
  const std::optional<std::string> path = wait ? std::optional(async_->Finish()) : async_->Advance();
  return path ? std::optional(Saved(*path, begun_, begin_)) : std::nullopt;
}

std::string RunSaves::Saved(const std::string& path, int64_t update, Clock::time_point begin) {
  OnRankZero(run_.runtime.world(), [&] {
    run_.folder.RecordFirstCheckpoint(update);
    return std::string();
  });
  wall_.TookSave(SecondsSince(begin));
  checkpoint_ = path;
  return path;
}

// In steps, as the watchdog takes a long silence for a hang.
void RunSaves::Sleep(int64_t seconds) {
  for (int64_t i = 0; i < seconds; ++i) {
    run_.runtime.Enter(Phase::kCheckpoint);
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace ksa
