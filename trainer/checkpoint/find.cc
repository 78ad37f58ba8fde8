// Finding, opening and verifying checkpoints.
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/piece_file.h"

namespace ksa {
namespace {

bool IsFolder(const std::string& path) {
  struct stat status {};

  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool IsFile(const std::string& path) {
  struct stat status {};

  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::string ManifestPath(const std::string& checkpoint) {
  return fmt::format("{}/{}", checkpoint, kManifestName);
}

Checkpoint ReadCheckpoint(const std::string& path) {
  const std::string manifest = ManifestPath(path);
  if (!IsFile(manifest)) {
    Fail(ExitCode::kBadData, "{}: it has no {}", path, kManifestName);
  }
  return {path, ParseManifest(ReadSmallFile(manifest), manifest)};
}

using Pieces = std::vector<std::pair<const TensorEntry*, const TensorPiece*>>;

void VerifyFile(const std::string& path, const Pieces& pieces, std::vector<std::string>& faults) {
  // Runs one check; what it throws is a fault.
  const auto attempt = [&](const auto& check) {
    try {
      check();
    } catch (const Error& error) {
      faults.emplace_back(error.what());
    }
  };
  attempt([&] {
    PieceFile file(path);
    if (!file.FrameIsIntact()) {
      Fail(ExitCode::kBadData, "{}: bytes outside of its datasets were changed", path);
    }
    for (const auto& [tensor, piece] : pieces) {
      attempt([&, tensor = tensor, piece = piece] {
        if (const uint64_t hash = file.Read(piece->dataset, tensor->dtype, piece->size()); hash != piece->xxh3) {
          Fail(ExitCode::kBadData,
               "{}: the dataset {} of the tensor {} is corrupt (its hash is {:016x}, the manifest says {:016x})",
               path,
               piece->dataset,
               tensor->name,
               hash,
               piece->xxh3);
        }
      });
    }
  });
}

// Faults of every `parts`-th file, from number `part` on.
std::vector<std::string> VerifyShare(const Checkpoint& checkpoint, size_t part, size_t parts) {
  std::map<std::string, Pieces> files;
  for (const TensorEntry& tensor : checkpoint.manifest.tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      files[piece.file].emplace_back(&tensor, &piece);
    }
  }
  std::vector<std::string> faults;
  size_t number = 0;
  for (const auto& [name, pieces] : files) {
    if (number++ % parts == part) {
      VerifyFile(checkpoint.path + "/" + name, pieces, faults);
    }
  }
  return faults;
}

// Lists as bytes: entries end with a zero byte.
std::string Join(const std::vector<std::string>& list) {
  std::string bytes;
  for (const std::string& entry : list) {
    bytes += entry;
    bytes += '\0';
  }
  return bytes;
}

std::vector<std::string> Split(const std::string& bytes) {
  std::vector<std::string> list;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = bytes.find('\0', begin);
    list.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  return list;
}

// The union of what all ranks found, on all of them.
std::vector<std::string> Collect(Communicator& world, const std::vector<std::string>& mine) {
  std::vector<std::string> all;
  for (const std::string& bytes : world.Gather(Join(mine))) {
    for (std::string& entry : Split(bytes)) {
      // All ranks read the manifest: they find the same faults in it.
      if (std::find(all.begin(), all.end(), entry) == all.end()) {
        all.push_back(std::move(entry));
      }
    }
  }
  return all;
}

// Reads a checkpoint and verifies this rank's share. The faults of all ranks; empty: good.
std::vector<std::string> TryCheckpoint(const std::string& folder,
                                       int64_t step,
                                       Communicator& world,
                                       Checkpoint& checkpoint) {
  const std::string path = folder + "/" + CheckpointFolderName(step);
  std::vector<std::string> faults;
  try {
    checkpoint = ReadCheckpoint(path);
    if (checkpoint.manifest.meta.step != step) {
      faults.push_back(fmt::format("{}: its manifest is of step {}", path, checkpoint.manifest.meta.step));
    } else {
      faults = VerifyShare(checkpoint, static_cast<size_t>(world.rank()), static_cast<size_t>(world.size()));
    }
  } catch (const Error& error) {
    faults.emplace_back(error.what());
  }
  return Collect(world, faults);
}

std::string WithoutSlash(const std::string& path) {
  const size_t last = path.find_last_not_of('/');
  return last == std::string::npos ? path.substr(0, 1) : path.substr(0, last + 1);
}

// The folder that holds step_*: a run's `checkpoints`, or `path` itself.
std::string FolderOf(const std::string& path) {
  const std::string inner = path + "/checkpoints";
  return IsFolder(inner) ? inner : path;
}

}  // namespace

FoundCheckpoint FindNewestCheckpoint(const std::string& folder, Communicator& world) {
  // Rank 0 looks for all: a folder on a shared disk may not look the same everywhere at once.
  const std::string names = OnRankZero(world, [&] {
    std::vector<std::string> steps;
    for (const int64_t step : StepsIn(folder)) {
      steps.push_back(std::to_string(step));
    }
    return Join(steps);
  });
  FoundCheckpoint result;
  const std::vector<std::string> steps = Split(names);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    Checkpoint checkpoint;
    const int64_t number = std::stoll(*step);
    const std::vector<std::string> faults = TryCheckpoint(folder, number, world, checkpoint);
    if (faults.empty()) {
      result.found = true;
      result.checkpoint = std::move(checkpoint);
      return result;
    }
    const std::string more = faults.size() > 1 ? fmt::format(" (and {} more faults)", faults.size() - 1) : "";
    result.refused.push_back({folder + "/" + CheckpointFolderName(number), faults.front() + more});
  }
  return result;
}

bool IsCheckpoint(const std::string& path) {
  const std::string folder = WithoutSlash(path);
  return IsFolder(folder) && (IsFile(ManifestPath(folder)) || StepOfName(folder.substr(folder.rfind('/') + 1)) >= 0);
}

Checkpoint OpenCheckpoint(const std::string& path, Communicator& world) {
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
  if (found.found) {
    return std::move(found.checkpoint);
  }
  if (found.refused.empty()) {
    Fail(ExitCode::kMissingInput, "{}: there is no checkpoint in this folder", FolderOf(folder));
  }
  std::string reasons;
  for (const RefusedCheckpoint& refused : found.refused) {
    reasons += "\n  " + refused.reason;
  }
  Fail(ExitCode::kBadData, "{}: none of its checkpoints is good:{}", FolderOf(folder), reasons);
}

Checkpoint OpenCheckpoint(const std::string& path) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  return OpenCheckpoint(path, *self);
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

std::vector<std::string> VerifyCheckpoint(const Checkpoint& checkpoint) {
  return VerifyShare(checkpoint, 0, 1);
}

std::vector<std::string> VerifyCheckpoint(const Checkpoint& checkpoint, Communicator& world) {
  return Collect(world, VerifyShare(checkpoint, static_cast<size_t>(world.rank()), static_cast<size_t>(world.size())));
}

}  // namespace ksa
