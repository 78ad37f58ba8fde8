#include "trainer/checkpoint/prune.h"

#include <vector>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/verify.h"

namespace ksa {
namespace {

bool IsKeptForGood(const PruneOptions& options, int64_t step) {
  return options.keep_every > 0 && step % options.keep_every == 0;
}

// Rank 0: steps before the newest of this run's checkpoints, as their manifests say, newest first; without those that
// are kept for good.
std::vector<std::string> OwnSteps(const PruneOptions& options) {
  std::vector<std::string> own;
  for (const int64_t step : StepsIn(options.folder)) {
    if (step >= options.newest || IsKeptForGood(options, step)) {
      continue;
    }
    const std::string path = options.folder + "/" + CheckpointFolderName(step);
    try {
      if (OwnerOf(path) == options.run_id) {
        own.insert(own.begin(), std::to_string(step));
      }
    } catch (const Error& error) {
      options.warn(fmt::format("checkpoint {} is not counted: {}", path, error.what()));
    }
  }
  return own;
}

// Renamed first: a folder that is half removed must not look like a checkpoint.
void Remove(const PruneOptions& options, int64_t step) {
  const std::string path = options.folder + "/" + CheckpointFolderName(step);
  if (KindOfName(path) != PathKind::kFolder) {
    return;  // a link
  }
  const std::string doomed = TemporaryName(options.folder, step, options.run_id);
  Rename(path, doomed);
  SyncFolder(options.folder);
  RemoveAll(doomed);
}

}  // namespace

bool IsGood(const std::string& path,
            int64_t step,
            CheckedCheckpoints& checked,
            Communicator& world,
            const std::function<void(const std::string&)>& warn) {
  const std::string known = OnRankZero(world, [&] {
    const std::optional<bool> answer = checked.Recall(path);
    return std::string(!answer.has_value() ? "unknown" : *answer ? "good" : "damaged");
  });
  if (known != "unknown") {
    return known == "good";
  }
  const Examined examined = Examine(path, step, world);
  if (world.rank() == 0) {
    RememberAnswer(checked, path, examined);
    if (!examined.good()) {
      warn(Describe(RefusalOf(path, examined.faults)));
    }
  }
  return examined.good();
}

void Prune(const PruneOptions& options, CheckedCheckpoints& checked, Communicator& world) {
  const std::string own = OnRankZero(world, [&] { return JoinList(OwnSteps(options)); });
  int32_t kept = IsKeptForGood(options, options.newest) ? 0 : 1;
  std::vector<int64_t> doomed;
  for (const std::string& name : SplitList(own)) {
    const int64_t step = std::stoll(name);
    if (!IsGood(options.folder + "/" + CheckpointFolderName(step), step, checked, world, options.warn)) {
      continue;
    }
    if (kept < options.keep_last) {
      ++kept;
    } else {
      doomed.push_back(step);
    }
  }
  OnRankZero(world, [&] {
    for (const int64_t step : doomed) {
      try {
        Remove(options, step);
      } catch (const Error& error) {
        options.warn(fmt::format("an old checkpoint stays: {}", error.what()));
      }
    }
    return std::string();
  });
}

}  // namespace ksa
