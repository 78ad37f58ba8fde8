#include "data/files/paths.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>

namespace ksa {
namespace {

PathKind Classify(int result, const struct stat& status, const std::string& path, FileUse use = FileUse::kRead) {
  if (result != 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return PathKind::kNone;
    }
    FailFile(use, error, path, "cannot be examined");
  }
  if (S_ISREG(status.st_mode)) {
    return PathKind::kFile;
  }
  if (S_ISDIR(status.st_mode)) {
    return PathKind::kFolder;
  }
  return S_ISLNK(status.st_mode) ? PathKind::kLink : PathKind::kOther;
}

}  // namespace

const char* NameOf(PathKind kind) {
  switch (kind) {
    case PathKind::kNone:
      return "nothing";
    case PathKind::kFile:
      return "a regular file";
    case PathKind::kFolder:
      return "a folder";
    case PathKind::kLink:
      return "a symbolic link";
    case PathKind::kOther:
      return "a pipe, a socket or a device";
  }
  return "unknown";
}

PathKind KindOf(const std::string& path, FileUse use) {
  struct stat status {};

  const int result = stat(path.c_str(), &status);
  return Classify(result, status, path, use);
}

PathKind KindOfName(const std::string& path, FileUse use) {
  struct stat status {};

  const int result = lstat(path.c_str(), &status);
  return Classify(result, status, path, use);
}

int64_t FileBytes(const std::string& path) {
  struct stat status {};

  if (stat(path.c_str(), &status) != 0) {
    FailFile(FileUse::kRead, errno, path, "cannot be examined");
  }
  return status.st_size;
}

std::vector<std::string> NamesIn(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(folder.c_str()), closedir);
  if (open == nullptr) {
    FailFile(FileUse::kRead, errno, folder, "cannot be listed");
  }
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(open.get());
    if (entry == nullptr) {
      break;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      names.emplace_back(name);
    }
  }
  if (errno != 0) {
    FailFile(FileUse::kRead, errno, folder, "cannot be listed to its end");
  }
  std::sort(names.begin(), names.end());
  return names;
}

void MakeFolders(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    FailFile(FileUse::kCreate, error.value(), folder, "the folder cannot be made");
  }
}

void RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) {
    FailFile(FileUse::kWrite, error.value(), path, "cannot be removed");
  }
}

int64_t FreeBytes(const std::string& path) {
  struct statvfs disk {};

  if (statvfs(path.c_str(), &disk) != 0) {
    FailFile(FileUse::kWrite, errno, path, "its disk cannot be examined");
  }
  return static_cast<int64_t>(disk.f_bavail * disk.f_frsize);
}

std::string ResolvePath(const std::string& path, FileUse use) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  const std::filesystem::path resolved =
      error ? std::filesystem::path() : std::filesystem::weakly_canonical(absolute, error);
  if (error) {
    FailFile(use, error.value(), path, "cannot be examined");
  }
  std::string text = resolved.string();
  while (text.size() > 1 && text.back() == '/') {
    text.pop_back();
  }
  return text;
}

}  // namespace ksa
