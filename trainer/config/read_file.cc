#include "trainer/config/read_file.h"

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"

namespace ksa {

std::string ReadConfigFile(const std::string& path) {
  const PathKind kind = KindOf(path);
  if (kind == PathKind::kNone) {
    Fail(ExitCode::kMissingInput, "{}: no such file", path);
  }
  if (kind != PathKind::kFile) {
    Fail(ExitCode::kMissingInput, "{}: expected a file, found {}", path, NameOf(kind));
  }
  if (const int64_t bytes = FileBytes(path); bytes > kLargestFile) {
    Fail(ExitCode::kConfig, "{}: {} bytes; a configuration has at most {}", path, bytes, kLargestFile);
  }
  return ReadSmallFile(path, kLargestFile);
}

}  // namespace ksa
