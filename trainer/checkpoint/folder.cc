#include "trainer/checkpoint/folder.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include <stdio.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

constexpr std::string_view kPrefix = "step_";
constexpr size_t kDigits = 8;
constexpr int64_t kSlack = int64_t{1} << 20;  // bytes, for frames and the manifest

// "a/b/c" -> "a/b", "c" -> ".", "/c" -> "/".
std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) {
    return ".";
  }
  return slash == 0 ? "/" : path.substr(0, slash);
}

void MoveAside(const std::string& path) {
  int number = 1;
  while (KindOfName(fmt::format("{}.replaced-{}", path, number)) != PathKind::kNone) {
    ++number;
  }
  Rename(path, fmt::format("{}.replaced-{}", path, number));
}

bool Exchange(const std::string& a, const std::string& b) {
  return renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

std::string CheckpointFolderName(int64_t step) {
  return fmt::format("step_{:08d}", step);
}

int64_t StepOfName(const std::string& name) {
  int64_t step = -1;
  if (!name.starts_with(kPrefix) || name.size() < kPrefix.size() + kDigits) {
    return -1;
  }
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, step);
  return error == std::errc() && stop == end && step >= 0 && CheckpointFolderName(step) == name ? step : -1;
}

std::string WithoutSlash(const std::string& path) {
  const size_t last = path.find_last_not_of('/');
  return last == std::string::npos ? path.substr(0, 1) : path.substr(0, last + 1);
}

std::string TemporaryName(const std::string& folder, int64_t step, const std::string& run_id) {
  return fmt::format("{}/{}.tmp-{}", folder, CheckpointFolderName(step), run_id);
}

std::vector<int64_t> StepsIn(const std::string& folder) {
  std::vector<int64_t> steps;
  if (!Exists(folder)) {
    return steps;
  }
  for (const std::string& name : NamesIn(folder)) {
    const int64_t step = StepOfName(name);
    if (step < 0) {
      continue;
    }
    const PathKind kind = KindOfName(folder + "/" + name);
    if (kind == PathKind::kFolder || kind == PathKind::kLink) {
      steps.push_back(step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string OwnerOf(const std::string& checkpoint) {
  const std::string path = fmt::format("{}/{}", checkpoint, kManifestName);
  try {
    return ParseManifest(ReadSmallFile(path), path).meta.run_id;
  } catch (const Error& error) {
    if (error.code() == ExitCode::kBadData || error.code() == ExitCode::kMissingInput) {
      return {};  // not known to be anybody's
    }
    throw;
  }
}

void MakeCheckpointFolder(const std::string& folder) {
  MakeFolders(folder);
  // At every save: the process that made it may have been killed before it got here.
  SyncFolder(ParentOf(folder));
}

std::vector<std::string> UnfinishedIn(const std::string& folder, const std::string& run_id) {
  std::vector<std::string> paths;
  if (run_id.empty() || !Exists(folder)) {
    return paths;
  }
  const std::string suffix = ".tmp-" + run_id;
  for (const std::string& name : NamesIn(folder)) {
    const std::string path = folder + "/" + name;
    if (name.ends_with(suffix) && StepOfName(name.substr(0, name.size() - suffix.size())) >= 0 &&
        KindOfName(path) == PathKind::kFolder) {
      paths.push_back(path);
    }
  }
  return paths;
}

void CheckRoomForCheckpoint(const std::string& folder, int64_t bytes, const std::string& run_id) {
  std::string existing = folder;
  while (!Exists(existing) && existing != ParentOf(existing)) {
    existing = ParentOf(existing);
  }
  int64_t free = FreeBytes(existing);
  for (const std::string& path : UnfinishedIn(folder, run_id)) {
    free += BytesOnDisk(path);
  }
  if (const int64_t needed = bytes + kSlack; free < needed) {
    // Not a lower keep_last: old checkpoints go after the new one has come.
    const bool several = StepsIn(folder).size() > 1;
    Fail(ExitCode::kIo,
         "{}: a checkpoint takes {}, and {} are free on this disk: make room for {} there{}, or move the run folder to "
         "a larger disk and say so in run.dir",
         folder,
         FormatBytes(needed),
         FormatBytes(free),
         FormatBytes(needed - free),
         several ? " (all checkpoints but the newest good one may be removed by hand)" : "");
  }
}

bool PutInPlace(const std::string& folder, int64_t step, const std::string& run_id, bool replace) {
  const std::string temporary = TemporaryName(folder, step, run_id);
  const std::string name = folder + "/" + CheckpointFolderName(step);
  if (KindOfName(name) != PathKind::kNone) {
    if (replace && Exchange(temporary, name)) {
      return true;
    }
    MoveAside(name);
  }
  Rename(temporary, name);
  return false;
}

}  // namespace ksa
