#include "trainer/run/start.h"

#include <filesystem>
#include <utility>

#include <fmt/core.h>

#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/config/load.h"
#include "trainer/interop/hf_folder.h"

namespace ksa {
namespace {

constexpr const char* kNever = "never";
constexpr const char* kAuto = "auto";

// What is true of the folder, as rank 0 sees it.
bool OnRankZeroIsTrue(Communicator& world, const std::function<bool()>& question) {
  return OnRankZero(world, [&] { return std::string(question() ? "yes" : "no"); }) == "yes";
}

CheckpointOrigin OriginOf(const Checkpoint& checkpoint) {
  return {checkpoint.manifest.meta.run_id, checkpoint.manifest.meta.step};
}

class Decision {
 public:
  Decision(const Config& config,
           const DataFacts& facts,
           const RunPaths& paths,
           Communicator& world,
           CheckedCheckpoints* checked)
      : config_(config), facts_(facts), paths_(paths), world_(world), checked_(checked) {}

  Start Take() {
    const FoundCheckpoint own = FindNewestCheckpoint(paths_.Checkpoints(), world_, checked_);
    const bool recorded = OnRankZeroIsTrue(world_, [&] { return Exists(paths_.FirstCheckpoint()); });
    const std::string& resume = config_.checkpoint.resume;
    if (resume == kNever) {
      RefusePast(own, recorded);
    }
    CheckNothingIsLost(own, recorded);
    if (resume != kNever && resume != kAuto) {
      StartFrom(resume, own);
    } else if (own.found) {
      GoOn(own.checkpoint);
    }
    if (own.found) {
      start_.record_first = !recorded;
    }
    if (!start_.checkpoint && config_.checkpoint.load) {
      TakeWeights(*config_.checkpoint.load);
    }
    return std::move(start_);
  }

 private:
  [[nodiscard]] OnRefused Collect() {
    return [this](const RefusedCheckpoint& refused) { start_.warnings.push_back(Describe(refused)); };
  }

  void RefusePast(const FoundCheckpoint& own, bool recorded) const {
    if (own.found || !own.refused.empty() || recorded) {
      Fail(ExitCode::kCannotCreate,
           "checkpoint.resume is never, but {} holds the past of a run{}; choose another run.dir, or resume with auto",
           paths_.folder(),
           own.found ? ", up to " + CheckpointFolderName(own.checkpoint.manifest.meta.step) : "");
    }
  }

  // A folder with a past never starts from update 1 again, and no checkpoint that may be good is passed over: what this
  // run would save later took its place.
  void CheckNothingIsLost(const FoundCheckpoint& own, bool recorded) {
    for (const RefusedCheckpoint& refused : own.refused) {
      if (own.found && refused.code == ExitCode::kIo) {
        Fail(ExitCode::kIo,
             "{}; it may be good, and going on from the older {} would replace it. Make it readable, or move it out of "
             "{}",
             Describe(refused),
             own.checkpoint.path,
             paths_.Checkpoints());
      }
      start_.warnings.push_back(Describe(refused));
    }
    if (own.found) {
      return;
    }
    if (!own.refused.empty()) {
      FailNoneIsGood(paths_.Checkpoints(), own.refused);
    }
    if (recorded) {
      Fail(ExitCode::kMissingInput,
           "{}: there is no checkpoint, although this run has saved some ({} says so). Bring them back (is a disk not "
           "mounted?), or choose another run.dir; to begin anew in this folder, empty it",
           paths_.Checkpoints(),
           paths_.FirstCheckpoint());
    }
  }

  // Whether the newest own checkpoint is of a run that began from `given`.
  [[nodiscard]] static bool Descends(const Checkpoint& own, const Checkpoint& given, bool any_step) {
    const CheckpointOrigin origin = OriginOf(given);
    const CheckpointMeta& meta = own.manifest.meta;
    if (meta.run_id == origin.run_id) {
      return meta.step >= origin.step;
    }
    return meta.resumed_from && meta.resumed_from->run_id == origin.run_id &&
           (any_step || meta.resumed_from->step == origin.step);
  }

  // checkpoint.resume: PATH. It is where an empty run folder starts; afterwards the run goes on in its own.
  void StartFrom(const std::string& path, const FoundCheckpoint& own) {
    if (own.found && IsGone(path)) {
      const std::optional<CheckpointOrigin>& origin = own.checkpoint.manifest.meta.resumed_from;
      const std::string name = std::filesystem::path(path).filename();
      if (origin && StepOfName(name) == origin->step) {
        start_.warnings.push_back(
            fmt::format("checkpoint.resume: {} is not there any more; this run began from {} of "
                        "run {}, and goes on from its own checkpoints",
                        path,
                        CheckpointFolderName(origin->step),
                        origin->run_id));
        GoOn(own.checkpoint);
        return;
      }
    }
    const Checkpoint given = OpenCheckpoint(path, world_, Collect());
    if (!own.found) {
      start_.resumed_from = OriginOf(given);
      GoOn(given);
      return;
    }
    // A run folder as PATH names no step: its newest may be a later one by now.
    const bool any_step = !OnRankZeroIsTrue(world_, [&] { return IsCheckpoint(path); });
    if (!Descends(own.checkpoint, given, any_step)) {
      Fail(ExitCode::kCannotCreate,
           "checkpoint.resume begins from {}, but the run folder holds {}, which does not come from it; choose another "
           "run.dir, or move the checkpoints there away",
           given.path,
           own.checkpoint.path);
    }
    if (own.checkpoint.manifest.meta.step > given.manifest.meta.step) {
      start_.notes.push_back(
          fmt::format("checkpoint.resume: the run has gone on from {} and is at {}", given.path, own.checkpoint.path));
    }
    GoOn(own.checkpoint);
  }

  [[nodiscard]] bool IsGone(const std::string& path) const {
    return OnRankZeroIsTrue(world_, [&] { return !Exists(path); });
  }

  void GoOn(const Checkpoint& checkpoint) {
    const CheckpointMeta& meta = checkpoint.manifest.meta;
    const std::vector<ConfigDifference> differences =
        DiffConfigs(ParseConfig(meta.configuration, checkpoint.path + "/manifest.json").config, config_);
    for (const ConfigDifference& difference : differences) {
      if (difference.key == "checkpoint.load") {
        continue;  // of new runs: nothing is loaded here
      }
      start_.notes.push_back(fmt::format(
          "changed since the checkpoint: {}: {} -> {}", difference.key, difference.old_value, difference.new_value));
    }
    CheckResume(differences);
    NoteOtherValidation(checkpoint);
    if (meta.data_fingerprint != facts_.fingerprint) {
      Fail(
          ExitCode::kConfig,
          "the training data is not what {} was trained on: fingerprint {} there, {} now; restore the shards, or start "
          "a new run with checkpoint.load",
          checkpoint.path,
          meta.data_fingerprint,
          facts_.fingerprint);
    }
    if (!start_.resumed_from) {
      start_.resumed_from = meta.resumed_from;
    }
    start_.checkpoint = checkpoint;
  }

  // Programs that did not know checkpoint.keep_every validated on the first samples of every source. Said once: the
  // next checkpoint has the key.
  void NoteOtherValidation(const Checkpoint& checkpoint) {
    const bool validates = config_.evaluation.interval > 0 && !config_.data.validation.empty();
    if (validates && checkpoint.manifest.meta.configuration.find("keep_every:") == std::string::npos) {
      start_.notes.push_back(
          fmt::format("validation: up to update {} it read the first samples of every source, now it reads samples "
                      "spread evenly over each; losses before and after do not compare",
                      checkpoint.manifest.meta.step));
    }
  }

  void TakeWeights(const std::string& path) {
    if (OnRankZeroIsTrue(world_, [&] { return IsHfFolder(path); })) {
      if (!OnRankZeroIsTrue(world_, [&] { return facts_.check_folder(path); })) {
        start_.warnings.push_back(
            fmt::format("checkpoint.load: the tokenizer of {} is not there to compare with the data's", path));
      }
      start_.folder = path;
      return;
    }
    Checkpoint source = OpenCheckpoint(path, world_, Collect());
    if (!OnRankZeroIsTrue(world_, [&] { return facts_.check_tokenizer(source); })) {
      start_.warnings.push_back(
          fmt::format("checkpoint.load: the tokenizer of {} is not there to compare with the data's", source.path));
    }
    start_.weights = std::move(source);
  }

  const Config& config_;
  const DataFacts& facts_;
  const RunPaths& paths_;
  Communicator& world_;
  CheckedCheckpoints* checked_;
  Start start_;
};

}  // namespace

Start DecideStart(const Config& config,
                  const DataFacts& facts,
                  const RunPaths& paths,
                  Communicator& world,
                  CheckedCheckpoints* checked) {
  return Decision(config, facts, paths, world, checked).Take();
}

}  // namespace ksa
