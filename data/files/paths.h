// Folders and names: std::filesystem's jobs, with errors that say what errno said (data/files/file_error.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/files/file_error.h"

namespace ksa {

// What a path leads to.
enum class PathKind : int {
  kNone,  // nothing: no such name, or a name below something that is no folder
  kFile,  // a regular file
  kFolder,
  kLink,   // a symbolic link; only where links are not followed
  kOther,  // a pipe, a device, a socket
};

// "nothing", "a regular file", "a folder" …
[[nodiscard]] const char* NameOf(PathKind kind);

// Links are followed; a link that leads nowhere is kNone. Error for loops, names that are too long and what may not be
// looked at, as CodeOf(use, errno): that a path can't be examined does not mean that nothing is there.
[[nodiscard]] PathKind KindOf(const std::string& path, FileUse use = FileUse::kRead);
// The name itself: a link is kLink. Errors as above.
[[nodiscard]] PathKind KindOfName(const std::string& path, FileUse use = FileUse::kRead);

[[nodiscard]] inline bool Exists(const std::string& path) {
  return KindOf(path) != PathKind::kNone;
}

[[nodiscard]] inline bool IsFile(const std::string& path) {
  return KindOf(path) == PathKind::kFile;
}

[[nodiscard]] inline bool IsFolder(const std::string& path) {
  return KindOf(path) == PathKind::kFolder;
}

// Bytes of a file. Error kMissingInput, kIo.
[[nodiscard]] int64_t FileBytes(const std::string& path);

// Names in a folder, sorted by bytes, without "." and "..". Error kMissingInput (no folder), kIo.
[[nodiscard]] std::vector<std::string> NamesIn(const std::string& folder);

// Makes a folder and those above it that are missing. Error kCannotCreate, kIo.
void MakeFolders(const std::string& folder);

// Removes a file, a link (not what it leads to) or a folder with all that is in it; nothing there is no error. Error
// kIo naming what could not be removed.
void RemoveAll(const std::string& path);

// Bytes that this user may still write on the disk of an existing path. Error kIo.
[[nodiscard]] int64_t FreeBytes(const std::string& path);

// An absolute path without links, "." and "..", of which the last parts need not exist yet. Error as KindOf.
[[nodiscard]] std::string ResolvePath(const std::string& path, FileUse use = FileUse::kRead);

}  // namespace ksa
