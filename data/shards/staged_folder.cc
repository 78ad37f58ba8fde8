#include "data/shards/staged_folder.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "data/files/file_error.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/shards/shard_index.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kInnerStaging = ".ksa-tmp";
constexpr const char* kLockFile = "lock";
constexpr mode_t kMode = 0777;  // less the umask

void MakeNewFolder(const std::string& folder) {
  if (mkdir(folder.c_str(), kMode) != 0) {
    FailFile(FileUse::kCreate,
             errno,
             folder,
             errno == EEXIST ? "is there already: another process writes there, or one was killed; remove it then"
                             : "the folder cannot be made");
  }
}

std::string ParentOf(const std::string& resolved) {
  const size_t slash = resolved.rfind('/');
  return slash == 0 ? "/" : resolved.substr(0, slash);
}

[[noreturn]] void FailOccupied(const std::string& path) {
  Fail(ExitCode::kCannotCreate, "{}: exists already; nothing was written. Give another --output or remove it", path);
}

// Whether a folder holds nothing, or nothing but a staging place that may be taken over.
bool IsFree(const std::string& folder, LeftOver left_over) {
  const std::vector<std::string> names = NamesIn(folder);
  return names.empty() || (left_over != LeftOver::kNone && names == std::vector<std::string>{kInnerStaging});
}

}  // namespace

StagedFolder::StagedFolder(const std::string& path, LeftOver left_over) : path_(ResolvePath(path, FileUse::kCreate)) {
  if (ValidUtf8Prefix(path_) != path_.size()) {
    Fail(ExitCode::kCannotCreate, "{}: the name is not UTF-8, which index.json must be; give another --output", path_);
  }
  const PathKind kind = KindOf(path_, FileUse::kCreate);
  if (kind == PathKind::kNone && KindOfName(path_, FileUse::kCreate) == PathKind::kLink) {
    Fail(ExitCode::kCannotCreate, "{}: a link that leads nowhere; make the folder that it names", path_);
  }
  if (kind != PathKind::kNone && (kind != PathKind::kFolder || !IsFree(path_, left_over))) {
    FailOccupied(path_);
  }
  inside_ = kind == PathKind::kFolder;
  if (left_over != LeftOver::kNone) {
    TakeOver(left_over);
    return;
  }
  if (inside_) {
    staging_ = path_ + "/" + kInnerStaging;
    MakeNewFolder(staging_);
    if (NamesIn(path_).size() > 1) {  // another process was faster
      static_cast<void>(rmdir(staging_.c_str()));
      FailOccupied(path_);
    }
  } else {
    staging_ = fmt::format("{}.tmp-{}", path_, getpid());
    MakeFolders(ParentOf(path_));
    MakeNewFolder(staging_);
  }
}

// Holds the folder's fixed staging place, and looks at what lies there.
void StagedFolder::TakeOver(LeftOver left_over) {
  staging_ = inside_ ? path_ + "/" + kInnerStaging : path_ + ".tmp";
  MakeFolders(staging_);
  auto lock = std::make_unique<File>(File::Create(staging_ + "/" + kLockFile));
  if (flock(lock->fd(), LOCK_EX | LOCK_NB) != 0) {
    Fail(ExitCode::kCannotCreate, "{}: another process writes there; wait for it, or give another --output", staging_);
  }
  lock_ = std::move(lock);
  resumed_ = Exists(staging_ + "/" + kUnfinishedFile);
  if (resumed_ && left_over == LeftOver::kRefuse) {
    Fail(ExitCode::kCannotCreate,
         "{}: holds what a run left that did not come to its end; --resume goes on with it, or remove it",
         staging_);
  }
  for (const std::string& name : resumed_ ? std::vector<std::string>() : NamesIn(staging_)) {
    if (name != kLockFile) {
      RemoveAll(staging_ + "/" + name);
    }
  }
}

StagedFolder::~StagedFolder() {
  if (!committed_ && !keep_) {
    std::error_code ignored;
    std::filesystem::remove_all(staging_, ignored);
  }
}

std::string StagedFolder::name() const {
  return path_.substr(path_.rfind('/') + 1);
}

void StagedFolder::Commit() {
  if (lock_ != nullptr) {
    RemoveAll(staging_ + "/" + kUnfinishedFile);
    RemoveAll(staging_ + "/" + kLockFile);
  }
  SyncFolder(staging_);
  if (inside_) {
    std::vector<std::string> names = NamesIn(staging_);
    // A folder counts as one of shards once its index is there.
    std::stable_partition(names.begin(), names.end(), [](const std::string& name) { return name != kIndexFile; });
    for (const std::string& name : names) {
      Rename(staging_ + "/" + name, path_ + "/" + name);
    }
    RemoveAll(staging_);
  } else {
    Rename(staging_, path_);
  }
  committed_ = true;
  SyncFolder(inside_ ? path_ : ParentOf(path_));
}

}  // namespace ksa
