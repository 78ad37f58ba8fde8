#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "kernels/core/error.h"
#include "trainer/run/run_folder.h"

namespace ksa {
namespace {

constexpr mode_t kMode = 0666;  // less the umask
constexpr size_t kMostBytes = 512;

// Who holds a lock, as its file says: "<host> <pid> <start time of the process, in clock ticks since the boot>".
struct Holder {
  std::string host;
  int64_t pid = 0;
  int64_t start = 0;
};

std::string HostName() {
  std::array<char, kMostBytes> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "unknown-host";
}

// Field 22 of /proc/<pid>/stat; 0 when there is no such process, or when it has ended and only waits to be reaped
// (state Z or X in field 3). The name in field 2 may hold anything, so fields count from its closing parenthesis.
int64_t StartTime(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text, '\0');
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return 0;
  }
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kFieldsBetween = 18;
  std::string state;
  fields >> state;
  if (state == "Z" || state == "X") {
    return 0;
  }
  std::string skipped;
  for (int i = 0; i < kFieldsBetween; ++i) {
    fields >> skipped;
  }
  int64_t start = 0;
  fields >> start;
  return start;
}

Holder ReadHolder(int fd) {
  std::array<char, kMostBytes> text{};
  Holder holder;
  if (pread(fd, text.data(), text.size() - 1, 0) > 0) {
    std::istringstream(text.data()) >> holder.host >> holder.pid >> holder.start;
  }
  return holder;
}

// An unreadable lock counts as nobody's: it is what a crash between making and filling it leaves. `locked`: this
// process got the file's flock. Another host's holder cannot be seen from here, but would hold that as long as it
// lives, wherever file systems pass flock on to their server; a run that was lost there is then started again here.
bool Lives(const Holder& holder, bool locked) {
  if (holder.host.empty() || holder.pid <= 0) {
    return false;
  }
  if (holder.host != HostName()) {
    return !locked;
  }
  const int64_t start = StartTime(holder.pid);
  return start != 0 && (holder.start == 0 || start == holder.start);
}

[[noreturn]] void FailLocked(const std::string& folder, const Holder& holder) {
  const std::string who =
      holder.pid > 0 ? fmt::format("process {} on {}", holder.pid, holder.host) : std::string("another process");
  Fail(ExitCode::kCannotCreate,
       "{}: {} is training in this run folder. Wait for it or stop it (touch {}/STOP); if that process no longer "
       "exists, remove {}/lock",
       folder,
       who,
       folder,
       folder);
}

bool SameFile(int fd, const std::string& path) {
  struct stat open_file {};

  struct stat named {};

  return fstat(fd, &open_file) == 0 && stat(path.c_str(), &named) == 0 && open_file.st_ino == named.st_ino &&
         open_file.st_dev == named.st_dev;
}

}  // namespace

// The file says who holds the lock, to people and where a file system has no flock(2); that decides between processes
// that look at the same moment.
FolderLock::FolderLock(const std::string& folder) : path_(folder + "/lock") {
  while (true) {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kMode);
    if (fd_ < 0) {
      Fail(ExitCode::kCannotCreate, "{}: cannot be made: {}", path_, std::strerror(errno));
    }
    const bool locked = flock(fd_, LOCK_EX | LOCK_NB) == 0;
    const bool taken = !locked && errno == EWOULDBLOCK;
    const Holder holder = ReadHolder(fd_);
    if (taken || (SameFile(fd_, path_) && Lives(holder, locked))) {
      static_cast<void>(close(fd_));
      FailLocked(folder, holder);
    }
    if (SameFile(fd_, path_)) {
      break;
    }
    static_cast<void>(close(fd_));  // its holder removed it just now
  }
  const std::string text = fmt::format("{} {} {}\n", HostName(), getpid(), StartTime(getpid()));
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    const int error = errno;
    static_cast<void>(close(fd_));
    Fail(ExitCode::kCannotCreate, "{}: cannot be written: {}", path_, std::strerror(error));
  }
}

FolderLock::~FolderLock() {
  static_cast<void>(unlink(path_.c_str()));
  static_cast<void>(close(fd_));
}

}  // namespace ksa
