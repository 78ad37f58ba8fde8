// Finding and opening checkpoints.
#include <cstddef>
#include <cstdio>
#include <memory>
#include <utility>

#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checked.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/verify.h"

namespace ksa {
namespace {

// How often a search begins again because a trainer pruned what it was reading. Twice is rare: what is searched first
// is pruned last.
constexpr int kMostSearches = 16;

// The folder that holds step_*: a run's `checkpoints`, or `path` itself.
std::string FolderOf(const std::string& path) {
  const std::string inner = path + "/checkpoints";
  return IsFolder(inner) ? inner : path;
}

// Rank 0 looks for all: a folder on a shared disk may not look the same everywhere at once. Newest first.
std::vector<int64_t> StepsForAll(const std::string& folder, Communicator& world) {
  const std::string bytes = OnRankZero(world, [&] {
    std::vector<std::string> names;
    for (const int64_t step : StepsIn(folder)) {
      names.push_back(std::to_string(step));
    }
    return JoinList(names);
  });
  std::vector<int64_t> steps;
  for (const std::string& name : SplitList(bytes)) {
    steps.insert(steps.begin(), std::stoll(name));
  }
  return steps;
}

// One search; none when it found something gone.
std::optional<FoundCheckpoint> Search(const std::string& folder, Communicator& world, CheckedCheckpoints* checked) {
  FoundCheckpoint result;
  for (const int64_t step : StepsForAll(folder, world)) {
    const std::string path = folder + "/" + CheckpointFolderName(step);
    Examined examined = Examine(path, step, world);
    if (examined.gone) {
      return std::nullopt;
    }
    if (checked != nullptr && world.rank() == 0) {
      RememberAnswer(*checked, path, examined);
    }
    if (examined.good()) {
      result.found = true;
      result.checkpoint = std::move(examined.checkpoint);
      break;
    }
    result.refused.push_back(RefusalOf(path, examined.faults));
  }
  return result;
}

}  // namespace

FoundCheckpoint FindNewestCheckpoint(const std::string& folder, Communicator& world, CheckedCheckpoints* checked) {
  for (int i = 0; i < kMostSearches; ++i) {
    if (std::optional<FoundCheckpoint> result = Search(folder, world, checked); result.has_value()) {
      return std::move(*result);
    }
  }
  Fail(ExitCode::kIo,
       "{}: checkpoints are pruned faster than they can be read; raise checkpoint.keep_last of the run that writes "
       "them, or copy one and name the copy",
       folder);
}

std::string Describe(const RefusedCheckpoint& refused) {
  return fmt::format("checkpoint {} is passed over: {}", refused.path, refused.reason);
}

void WarnOfRefused(const RefusedCheckpoint& refused) {
  fmt::print(stderr, "warning: {}\n", Describe(refused));
}

void FailNoneIsGood(const std::string& folder, const std::vector<RefusedCheckpoint>& refused) {
  ExitCode code = ExitCode::kBadData;
  std::string reasons;
  for (const RefusedCheckpoint& one : refused) {
    reasons += "\n  " + one.reason;
    code = one.code == ExitCode::kIo ? ExitCode::kIo : code;
  }
  Fail(code,
       "{}: {}:{}",
       folder,
       code == ExitCode::kIo ? "none of its checkpoints is good as far as they can be read"
                             : "none of its checkpoints is good",
       reasons);
}

bool IsCheckpoint(const std::string& path) {
  const std::string folder = WithoutSlash(path);
  return IsFolder(folder) &&
         (Exists(fmt::format("{}/{}", folder, kManifestName)) || StepOfName(folder.substr(folder.rfind('/') + 1)) >= 0);
}

Checkpoint OpenCheckpoint(const std::string& path, Communicator& world, const OnRefused& on_refused) {
  const std::string folder = WithoutSlash(path);
  const std::string kind = OnRankZero(world, [&]() -> std::string {
    if (!IsFolder(folder)) {
      Fail(ExitCode::kMissingInput, "{}: there is no such checkpoint or run folder", folder);
    }
    return IsCheckpoint(folder) ? "checkpoint" : "folder of checkpoints";
  });
  if (kind == "checkpoint") {
    Checkpoint checkpoint;
    OnAllRanks(world, [&] {
      checkpoint = ReadCheckpoint(folder);
      return std::string();
    });
    return checkpoint;
  }
  FoundCheckpoint found = FindNewestCheckpoint(FolderOf(folder), world);
  if (!found.found && found.refused.empty()) {
    Fail(ExitCode::kMissingInput, "{}: there is no checkpoint in this folder", FolderOf(folder));
  }
  if (!found.found) {
    FailNoneIsGood(FolderOf(folder), found.refused);
  }
  if (world.rank() == 0) {
    for (const RefusedCheckpoint& refused : found.refused) {
      on_refused(refused);
    }
  }
  return std::move(found.checkpoint);
}

Checkpoint OpenCheckpoint(const std::string& path, const OnRefused& on_refused) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  return OpenCheckpoint(path, *self, on_refused);
}

std::vector<std::string> ListCheckpoints(const std::string& path) {
  if (!IsFolder(path)) {
    Fail(ExitCode::kMissingInput, "{}: there is no such run folder", path);
  }
  const std::string folder = FolderOf(WithoutSlash(path));
  std::vector<std::string> checkpoints;
  for (const int64_t step : StepsIn(folder)) {
    checkpoints.push_back(folder + "/" + CheckpointFolderName(step));
  }
  return checkpoints;
}

}  // namespace ksa
