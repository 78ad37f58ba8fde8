#include "data/shards/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr mode_t kMode = 0666;  // less the umask

[[noreturn]] void FailErrno(ExitCode code, const std::string& path, const char* what) {
  const int error = errno;
  Fail(code, "{}: {}: {}", path, what, std::strerror(error));
}

int OpenChecked(const std::string& path, int flags, ExitCode code, const char* what) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, kMode);
  if (fd < 0) {
    FailErrno(errno == ENOENT && (flags & O_CREAT) == 0 ? ExitCode::kMissingInput : code, path, what);
  }
  return fd;
}

}  // namespace

File File::OpenForReading(const std::string& path) {
  return {OpenChecked(path, O_RDONLY, ExitCode::kIo, "cannot open"), path};
}

File File::OpenForWriting(const std::string& path) {
  return {OpenChecked(path, O_WRONLY, ExitCode::kIo, "cannot open for writing"), path};
}

File File::Create(const std::string& path) {
  return {OpenChecked(path, O_WRONLY | O_CREAT | O_TRUNC, ExitCode::kCannotCreate, "cannot create"), path};
}

File File::Temporary(const std::string& folder) {
  std::string name = folder + "/spool-XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) {
    FailErrno(ExitCode::kCannotCreate, folder, "cannot create a temporary file");
  }
  static_cast<void>(unlink(name.c_str()));
  return {fd, name};
}

File::File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) {
    static_cast<void>(close(fd_));
  }
}

int64_t File::Size() const {
  struct stat status {};

  if (fstat(fd_, &status) != 0) {
    FailErrno(ExitCode::kIo, path_, "cannot be examined");
  }
  return status.st_size;
}

void File::Write(const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = write(fd_, from, static_cast<size_t>(bytes));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      FailErrno(ExitCode::kIo, path_, "cannot write");
    }
    from += n;
    bytes -= n;
  }
}

void File::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = pwrite(fd_, from, static_cast<size_t>(bytes), offset);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      FailErrno(ExitCode::kIo, path_, "cannot write");
    }
    from += n;
    offset += n;
    bytes -= n;
  }
}

void File::ReadAt(int64_t offset, void* data, int64_t bytes) const {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = pread(fd_, to, static_cast<size_t>(bytes), offset);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      FailErrno(ExitCode::kIo, path_, "cannot read");
    }
    if (n == 0) {
      Fail(ExitCode::kIo, "{}: the file ends at byte {} where {} more were expected", path_, offset, bytes);
    }
    to += n;
    offset += n;
    bytes -= n;
  }
}

void File::Sync() {
  if (fsync(fd_) != 0) {
    FailErrno(ExitCode::kIo, path_, "cannot be flushed to disk");
  }
}

void File::Close() {
  if (close(std::exchange(fd_, -1)) != 0) {
    FailErrno(ExitCode::kIo, path_, "cannot be closed");
  }
}

void SyncFolder(const std::string& path) {
  File folder = File::OpenForReading(path.empty() ? "." : path);
  folder.Sync();
}

void Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    FailErrno(ExitCode::kCannotCreate, to, "cannot be put in place");
  }
}

void WriteFileAtomically(const std::string& path, const std::string& contents) {
  const std::string temporary = path + ".tmp";
  File file = File::Create(temporary);
  file.Write(contents.data(), static_cast<int64_t>(contents.size()));
  file.Sync();
  file.Close();
  Rename(temporary, path);
}

std::string ReadSmallFile(const std::string& path, int64_t most) {
  const File file = File::OpenForReading(path);
  const int64_t size = file.Size();
  if (size > most) {
    Fail(ExitCode::kBadData, "{}: {} bytes; at most {} were expected", path, size, most);
  }
  std::string contents(static_cast<size_t>(size), '\0');
  file.ReadAt(0, contents.data(), size);
  return contents;
}

}  // namespace ksa
