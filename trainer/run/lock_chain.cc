#include "trainer/run/lock_chain.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <sstream>
#include <utility>

#include <fmt/core.h>

#include "data/files/file_error.h"
#include "data/files/posix_file.h"

namespace ksa {
namespace {

constexpr mode_t kMode = 0666;  // less the umask
constexpr size_t kMostBytes = 1024;
constexpr size_t kMostTokenBytes = 64;
constexpr size_t kMostFiles = 64;  // of a chain: as many processes died one after the other while they took it over

// What a file that follows this one may be called after: what it says, and what it is, for those that see it while it
// is still empty.
std::array<std::string, 2> NamesOf(const LockFile& file) {
  return {file.holder.token, fmt::format("inode-{}", file.inode)};
}

// Closes a descriptor at the end of a block.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}

  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  ~Descriptor() {
    if (fd_ >= 0) {
      static_cast<void>(close(fd_));
    }
  }

  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

bool LockFile::SameHolder(const LockFile& other) const {
  return path == other.path && holder.token == other.holder.token &&
         (!holder.token.empty() || (text == other.text && inode == other.inode));
}

LockHolder ParseHolder(const std::string& text) {
  LockHolder holder;
  std::istringstream stream(text);
  if (!(stream >> holder.host >> holder.pid >> holder.start) || holder.pid <= 0 || holder.pid > INT32_MAX) {
    return {};
  }
  stream >> holder.place >> holder.token;  // missing in files of earlier versions
  if (holder.token.find('/') != std::string::npos || holder.token.size() > kMostTokenBytes) {
    return {};
  }
  return holder;
}

std::optional<LockFile> LockChain::Look(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0 && (errno == ENOENT || errno == ESTALE)) {
    return std::nullopt;
  }

  struct stat status {};

  if (file.get() < 0 || fstat(file.get(), &status) != 0) {
    FailFile(FileUse::kCreate, errno, path, "this lock cannot be read");
  }
  if (!S_ISREG(status.st_mode)) {
    FailFile(FileUse::kCreate, EEXIST, path, "this lock is not a regular file; move it away");
  }
  std::array<char, kMostBytes> text{};
  const ssize_t bytes = pread(file.get(), text.data(), text.size(), 0);
  if (bytes < 0) {
    FailFile(FileUse::kWrite, errno, path, "this lock cannot be read");
  }
  LockFile result{path, std::string(text.data(), static_cast<size_t>(bytes)), status.st_ino, {}};
  result.holder = ParseHolder(result.text);
  return result;
}

std::vector<LockFile> LockChain::Read() const {
  std::vector<LockFile> files;
  std::optional<LockFile> file = Look(root_);
  while (file.has_value() && files.size() < kMostFiles) {
    files.push_back(*file);
    file.reset();
    for (const std::string& name : NamesOf(files.back())) {
      if (!file.has_value() && !name.empty()) {
        file = Look(fmt::format("{}.after-{}", root_, name));
      }
    }
  }
  return files;
}

std::string LockChain::Next(const std::vector<LockFile>& dead) const {
  if (dead.empty()) {
    return root_;
  }
  const auto [token, inode] = NamesOf(dead.back());
  return fmt::format("{}.after-{}", root_, token.empty() ? inode : token);
}

bool CreateLockFile(const std::string& path, const std::string& text) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode));
  if (file.get() < 0) {
    if (errno == EEXIST) {
      return false;
    }
    FailFile(FileUse::kCreate, errno, path, "this lock cannot be made");
  }
  if (pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) || fsync(file.get()) != 0) {
    const int error = errno == 0 ? ENOSPC : errno;
    static_cast<void>(unlink(path.c_str()));
    FailFile(FileUse::kCreate, error, path, "this lock cannot be written");
  }
  return true;
}

bool LockChain::Take(const std::vector<LockFile>& dead, const std::string& text) const {
  const std::string path = Next(dead);
  if (!CreateLockFile(path, text)) {
    return false;
  }
  const std::string token = ParseHolder(text).token;
  const std::vector<LockFile> now = Read();
  bool reached = now.size() > dead.size() && now[dead.size()].path == path && now[dead.size()].holder.token == token;
  for (size_t i = 0; i < dead.size() && reached; ++i) {
    reached = now[i].SameHolder(dead[i]);
  }
  if (reached && now.size() == dead.size() + 1) {
    return true;
  }
  // Another chain counts, and what was made here is no part of it. Or this one goes on: somebody saw this file while it
  // was empty and took it for dead; then it must stay, for what follows hangs on it.
  if (!reached && !dead.empty()) {
    static_cast<void>(unlink(path.c_str()));
  }
  return false;
}

void LockChain::Settle(const std::vector<LockFile>& dead, const std::string& text) const {
  if (dead.empty()) {
    return;
  }
  const std::string own = Next(dead);
  const std::string moved = fmt::format("{}.new-{}", root_, ParseHolder(text).token);
  try {
    static_cast<void>(CreateLockFile(moved, text));
    Rename(moved, root_);
  } catch (...) {
    static_cast<void>(unlink(moved.c_str()));
    static_cast<void>(unlink(own.c_str()));
    throw;
  }
  for (size_t i = 1; i < dead.size(); ++i) {
    static_cast<void>(unlink(dead[i].path.c_str()));
  }
  static_cast<void>(unlink(own.c_str()));
}

}  // namespace ksa
