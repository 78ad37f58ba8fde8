#include "data/files/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "data/files/file_error.h"
#include "data/files/paths.h"

namespace ksa {
namespace {

constexpr mode_t kMode = 0666;  // less the umask

int OpenChecked(const std::string& path, int flags, FileUse use, const char* what) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, kMode);
  if (fd < 0) {
    FailFile(use, errno, path, what);
  }
  return fd;
}

}  // namespace

File File::OpenForReading(const std::string& path) {
  // Without O_NONBLOCK opening a pipe waits for its writer; for regular files it means nothing.
  File file(OpenChecked(path, O_RDONLY | O_NONBLOCK, FileUse::kRead, "cannot open"), path);

  struct stat status {};

  if (fstat(file.fd_, &status) != 0) {
    FailFile(FileUse::kRead, errno, path, "cannot be examined");
  }
  if (!S_ISREG(status.st_mode)) {
    Fail(ExitCode::kMissingInput,
         "{}: expected a regular file, found {}",
         path,
         NameOf(S_ISDIR(status.st_mode) ? PathKind::kFolder : PathKind::kOther));
  }
  return file;
}

File File::OpenForWriting(const std::string& path) {
  return {OpenChecked(path, O_WRONLY, FileUse::kRead, "cannot open for writing"), path};
}

File File::Create(const std::string& path) {
  File file = CreateOrKeep(path);
  file.Truncate();
  return file;
}

File File::CreateOrKeep(const std::string& path) {
  // A pipe without a reader fails instead of waiting for one.
  File file(OpenChecked(path, O_WRONLY | O_CREAT | O_NONBLOCK, FileUse::kCreate, "cannot create"), path);
  if (fcntl(file.fd_, F_SETFL, 0) != 0) {
    FailFile(FileUse::kCreate, errno, path, "cannot create");
  }
  return file;
}

File File::Temporary(const std::string& folder) {
  std::string name = folder + "/spool-XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) {
    FailFile(FileUse::kCreate, errno, folder, "cannot create a temporary file");
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
    FailFile(FileUse::kWrite, errno, path_, "cannot be examined");
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
      FailFile(FileUse::kWrite, errno, path_, "cannot write");
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
      FailFile(FileUse::kWrite, errno, path_, "cannot write");
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
      FailFile(FileUse::kWrite, errno, path_, "cannot read");
    }
    if (n == 0) {
      Fail(ExitCode::kIo, "{}: the file ends at byte {} where {} more were expected", path_, offset, bytes);
    }
    to += n;
    offset += n;
    bytes -= n;
  }
}

void File::Truncate() {
  struct stat status {};

  if (fstat(fd_, &status) == 0 && S_ISREG(status.st_mode) && ftruncate(fd_, 0) != 0) {
    FailFile(FileUse::kCreate, errno, path_, "cannot be emptied");
  }
}

void File::Sync() {
  if (fsync(fd_) != 0) {
    FailFile(FileUse::kWrite, errno, path_, "cannot be flushed to disk");
  }
}

void File::DropCache() const {
  static_cast<void>(posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED));
}

void File::Close() {
  if (close(std::exchange(fd_, -1)) != 0) {
    FailFile(FileUse::kWrite, errno, path_, "cannot be closed");
  }
}

void SyncFolder(const std::string& path) {
  const std::string name = path.empty() ? "." : path;
  const int fd = OpenChecked(name, O_RDONLY | O_DIRECTORY, FileUse::kWrite, "cannot open the folder");
  const int error = fsync(fd) == 0 ? 0 : errno;
  static_cast<void>(close(fd));
  if (error != 0 && error != EINVAL) {
    FailFile(FileUse::kWrite, error, name, "the folder cannot be flushed to disk");
  }
}

void Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    FailFile(FileUse::kCreate, errno, to, "cannot be put in place");
  }
}

void WriteDurably(const std::string& path, const std::string& contents) {
  File file = File::Create(path);
  file.Write(contents.data(), static_cast<int64_t>(contents.size()));
  file.Sync();
  file.DropCache();
  file.Close();
}

void WriteFileAtomically(const std::string& path, const std::string& contents) {
  const std::string temporary = path + ".tmp";
  WriteDurably(temporary, contents);
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
