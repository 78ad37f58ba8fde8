#include "trainer/checkpoint/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include <stdio.h>

#include "data/files/posix_file.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

constexpr std::string_view kPrefix = "step_";
constexpr size_t kDigits = 8;
constexpr int64_t kSlack = int64_t{1} << 20;  // bytes, for frames and the manifest

bool IsRealFolder(const std::string& path) {
  struct stat status {};

  return lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool Exists(const std::string& path) {
  struct stat status {};

  return lstat(path.c_str(), &status) == 0;
}

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(folder.c_str()), closedir);
  if (open == nullptr) {
    if (errno == ENOENT) {
      return names;
    }
    Fail(ExitCode::kIo, "{}: cannot be listed: {}", folder, std::strerror(errno));
  }
  while (const dirent* entry = readdir(open.get())) {
    names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Links are removed, not followed.
void RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) {
    Fail(ExitCode::kIo, "{}: cannot be removed: {}", path, error.message());
  }
}

void MoveAside(const std::string& path) {
  int number = 1;
  while (Exists(fmt::format("{}.replaced-{}", path, number))) {
    ++number;
  }
  Rename(path, fmt::format("{}.replaced-{}", path, number));
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

std::string TemporaryName(const std::string& folder, int64_t step, const std::string& run_id) {
  return fmt::format("{}/{}.tmp-{}", folder, CheckpointFolderName(step), run_id);
}

std::vector<int64_t> StepsIn(const std::string& folder) {
  std::vector<int64_t> steps;
  for (const std::string& name : NamesIn(folder)) {
    if (const int64_t step = StepOfName(name); step >= 0 && IsRealFolder(folder + "/" + name)) {
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
  } catch (const Error&) {
    return {};  // not known to be anybody's
  }
}

void PrepareCheckpointFolder(const std::string& folder, int64_t bytes) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    Fail(ExitCode::kCannotCreate, "{}: cannot be made: {}", folder, error.message());
  }

  struct statvfs disk {};

  if (statvfs(folder.c_str(), &disk) != 0) {
    Fail(ExitCode::kIo, "{}: its disk cannot be examined: {}", folder, std::strerror(errno));
  }
  const auto free = static_cast<int64_t>(disk.f_bavail * disk.f_frsize);
  if (free < bytes + kSlack) {
    Fail(ExitCode::kIo,
         "{}: a checkpoint takes {}, and {} are free on this disk: free some space or lower checkpoint.keep_last",
         folder,
         FormatBytes(bytes + kSlack),
         FormatBytes(free));
  }
}

void RemoveUnfinished(const std::string& folder, const std::string& run_id) {
  const std::string suffix = ".tmp-" + run_id;
  for (const std::string& name : NamesIn(folder)) {
    const std::string path = folder + "/" + name;
    if (name.ends_with(suffix) && StepOfName(name.substr(0, name.size() - suffix.size())) >= 0 && IsRealFolder(path)) {
      RemoveTree(path);
    }
  }
}

void Install(const std::string& folder, int64_t step, const std::string& run_id) {
  const std::string temporary = TemporaryName(folder, step, run_id);
  const std::string name = folder + "/" + CheckpointFolderName(step);
  bool exchanged = false;
  if (Exists(name)) {
    exchanged = IsRealFolder(name) && OwnerOf(name) == run_id &&
                renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, name.c_str(), RENAME_EXCHANGE) == 0;
    if (!exchanged) {
      MoveAside(name);
    }
  }
  if (!exchanged) {
    Rename(temporary, name);
  }
  SyncFolder(folder);
  if (exchanged) {
    RemoveTree(temporary);
  }
}

void Prune(const std::string& folder, int64_t newest, int32_t keep_last, const std::string& run_id) {
  std::vector<int64_t> steps = StepsIn(folder);
  int32_t kept = 1;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const std::string path = folder + "/" + CheckpointFolderName(*step);
    if (*step >= newest || OwnerOf(path) != run_id) {
      continue;
    }
    if (kept < keep_last) {
      ++kept;
      continue;
    }
    // Renamed first: a folder that is half removed must not look like a checkpoint.
    const std::string doomed = TemporaryName(folder, *step, run_id);
    Rename(path, doomed);
    RemoveTree(doomed);
  }
}

}  // namespace ksa
