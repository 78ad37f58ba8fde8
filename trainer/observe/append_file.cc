#include "trainer/observe/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "data/files/file_error.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr mode_t kMode = 0666;  // less the umask

}  // namespace

AppendFile::AppendFile(const std::string& path, Kind kind, int64_t most_pending)
    : path_(path), kind_(kind), most_pending_(most_pending) {
  // O_NONBLOCK is for pipes alone: neither opening nor writing one may wait for its reader.
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, kMode);
  if (fd_ < 0) {
    FailFile(FileUse::kCreate, errno, path, "cannot be opened for appending");
  }
  if (kind == Kind::kRecords && EndsTorn()) {
    Append("\n");
  }
}

AppendFile::~AppendFile() {
  WritePending();
  static_cast<void>(close(fd_));
}

bool AppendFile::EndsTorn() const {
  const off_t size = lseek(fd_, 0, SEEK_END);
  char last = '\n';
  return size > 0 && pread(fd_, &last, 1, size - 1) == 1 && last != '\n';
}

void AppendFile::WritePending() {
  trouble_.clear();
  size_t done = 0;
  while (done < pending_.size() && trouble_.empty()) {
    const ssize_t n = write(fd_, pending_.data() + done, pending_.size() - done);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n == 0 || errno != EINTR) {
      trouble_ = n == 0 ? "nothing could be written" : std::strerror(errno);
    }
  }
  pending_.erase(0, done);
}

void AppendFile::Append(std::string_view bytes) {
  pending_ += bytes;
  WritePending();
  if (static_cast<int64_t>(pending_.size()) <= most_pending_) {
    return;
  }
  if (kind_ == Kind::kRecords) {
    Fail(ExitCode::kIo,
         "{}: cannot be written: {}; {} bytes wait for it, which is the most; make room and start again",
         path_,
         trouble_,
         pending_.size());
  }
  pending_.erase(0, pending_.size() / 2);
}

void AppendFile::Sync() {
  WritePending();
  if (!trouble_.empty()) {
    Fail(ExitCode::kIo, "{}: cannot be written: {}", path_, trouble_);
  }
  if (fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) {  // a pipe or a device: there is nothing to flush
    FailFile(FileUse::kWrite, errno, path_, "cannot be flushed to disk");
  }
}

}  // namespace ksa
