#include "trainer/run/folder_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/run/lock_chain.h"

namespace ksa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kUnknownPlace = "-";
constexpr int kMostRounds = 1000;  // of looking, being too late and looking again

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "unknown-host";
}

// Process numbers mean the same where boot and namespace are the same; hosts may share a name, containers always do.
std::string ThisPlace() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;

  struct stat numbers {};

  if (boot.empty() || stat("/proc/self/ns/pid", &numbers) != 0) {
    return kUnknownPlace;
  }
  return fmt::format("{}-{}", boot, numbers.st_ino);
}

// 0 where it cannot be read, as that of another user's process may.
struct ProcessStatus {
  bool ended = false;  // only waits to be reaped
  int64_t start = 0;   // in clock ticks since the boot
};

// Fields 3 and 22 of /proc/<pid>/stat. The name in field 2 may hold anything, so fields count from its closing
// parenthesis.
ProcessStatus StatusOf(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text, '\0');
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return {};
  }
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kFieldsBetween = 18;
  std::string state;
  fields >> state;
  std::string skipped;
  for (int i = 0; i < kFieldsBetween; ++i) {
    fields >> skipped;
  }
  ProcessStatus status;
  status.ended = state == "Z" || state == "X";
  fields >> status.start;
  return status;
}

bool Lives(int64_t pid, int64_t start) {
  if (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) {
    return false;
  }
  const ProcessStatus status = StatusOf(pid);
  // The number may have been given to another process since.
  return !status.ended && (status.start == 0 || start == 0 || status.start == start);
}

std::string NewToken() {
  uint64_t token = 0;
  if (getrandom(&token, sizeof token, 0) != static_cast<ssize_t>(sizeof token)) {
    Fail(ExitCode::kInternal, "no random number for a lock: {}", std::strerror(errno));
  }
  return fmt::format("{:016x}", token);
}

std::string Named(const LockHolder& holder) {
  return holder.pid > 0 ? fmt::format("process {} on {}", holder.pid, holder.host) : std::string("another process");
}

[[noreturn]] void FailLocked(const std::string& folder, const LockHolder& holder) {
  Fail(ExitCode::kCannotCreate,
       "{}: {} is training in this run folder. Wait for it or stop it (touch {}/STOP); if that process no longer "
       "exists, remove {}/lock",
       folder,
       Named(holder),
       folder,
       folder);
}

void EndProcess(const std::string& reason) {
  const std::string line = fmt::format("ksa: {}\n", reason);
  static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
  _exit(static_cast<int>(ExitCode::kCannotCreate));
}

}  // namespace

// The lock that is held, as its thread sees it.
class FolderLock::Beat {
 public:
  Beat(const std::string& folder, FolderLockOptions options)
      : folder_(folder), chain_(folder), options_(std::move(options)), token_(NewToken()) {
    const LockHolder self = {.host = options_.host.empty() ? HostName() : options_.host,
                             .pid = getpid(),
                             .start = StatusOf(getpid()).start,
                             .place = options_.place.empty() ? ThisPlace() : options_.place,
                             .token = token_};
    place_ = self.place;
    host_ = self.host;
    said_ = fmt::format("{} {} {} {} {} ", self.host, self.pid, self.start, self.place, self.token);
  }

  // Returns when this process holds the lock.
  void Acquire();
  // The thread: counts up until Stop. Whether it was stopped, and not ended because the lock was lost.
  void Run();
  // Whether the thread ended in time; it may hang in the file system.
  [[nodiscard]] bool Stop(std::chrono::milliseconds limit);
  void Remove() const;

 private:
  enum class Verdict : int { kAlive, kDead, kUnknown };

  [[nodiscard]] Verdict Judge(const LockFile& file) const;
  [[nodiscard]] bool AllDead(const std::vector<LockFile>& files) const;
  void Announce(const LockFile& file);
  void FailIfCounted(const std::vector<LockFile>& before, const std::vector<LockFile>& now) const;

  [[nodiscard]] std::string Text() const { return fmt::format("{}{:020d}\n", said_, count_); }

  void Count();
  void Lose(const std::optional<LockFile>& other);

  const std::string folder_;
  const LockChain chain_;
  const FolderLockOptions options_;
  const std::string token_;
  std::string host_;
  std::string place_;
  std::string said_;   // of the file, all but the count
  int64_t count_ = 0;  // the thread's
  bool announced_ = false;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool stopping_ = false;
  bool ended_ = false;
};

FolderLock::Beat::Verdict FolderLock::Beat::Judge(const LockFile& file) const {
  const LockHolder& holder = file.holder;
  if (holder.pid <= 0) {
    return Verdict::kUnknown;  // being written, or what a crash left
  }
  if (holder.token == token_) {
    return Verdict::kDead;  // this one's, which another process took for dead
  }
  const bool here = holder.place.empty() ? holder.host == host_ : holder.place == place_ && place_ != kUnknownPlace;
  if (!here) {
    return Verdict::kUnknown;
  }
  return Lives(holder.pid, holder.start) ? Verdict::kAlive : Verdict::kDead;
}

bool FolderLock::Beat::AllDead(const std::vector<LockFile>& files) const {
  bool known = true;
  for (const LockFile& file : files) {
    const Verdict verdict = Judge(file);
    if (verdict == Verdict::kAlive) {
      FailLocked(folder_, file.holder);
    }
    known = known && verdict == Verdict::kDead;
  }
  return known;
}

void FolderLock::Beat::Announce(const LockFile& file) {
  if (std::exchange(announced_, true)) {
    return;
  }
  const std::string line = fmt::format("{}: {} may hold this run folder: waiting for a sign of life, {} s at most",
                                       folder_,
                                       Named(file.holder),
                                       std::chrono::ceil<std::chrono::seconds>(options_.patience).count());
  if (options_.say) {
    options_.say(line);
    return;
  }
  fmt::print(stderr, "ksa: {}\n", line);
  std::fflush(stderr);
}

// A holder whose file changed and still names it lives.
void FolderLock::Beat::FailIfCounted(const std::vector<LockFile>& before, const std::vector<LockFile>& now) const {
  for (size_t i = 0; i < std::min(before.size(), now.size()); ++i) {
    if (before[i].holder.pid > 0 && before[i].SameHolder(now[i]) && before[i].text != now[i].text) {
      FailLocked(folder_, now[i].holder);
    }
  }
}

void FolderLock::Beat::Acquire() {
  std::vector<LockFile> seen;
  Clock::time_point since;
  const auto same = [](const LockFile& a, const LockFile& b) { return a.SameHolder(b) && a.text == b.text; };
  for (int round = 0; round < kMostRounds;) {
    const std::vector<LockFile> now = chain_.Read();
    const bool all_dead = AllDead(now);
    if (!all_dead) {
      FailIfCounted(seen, now);
      if (!std::equal(seen.begin(), seen.end(), now.begin(), now.end(), same)) {
        seen = now;
        since = Clock::now();
        ++round;
      }
      if (Clock::now() - since < options_.patience) {
        Announce(now.front());
        std::this_thread::sleep_for(std::min(options_.beat / 4, options_.patience / 4));
        continue;
      }
    }
    if (chain_.Take(now, Text())) {
      chain_.Settle(now, Text());
      return;
    }
    ++round;
    std::this_thread::sleep_for(std::chrono::milliseconds(1 + getpid() % 20));  // others too, at other times
  }
  Fail(ExitCode::kCannotCreate, "{}: other processes take and leave this lock all the time", chain_.root());
}

// Opened anew each time: that is when a network file system looks at what others wrote.
void FolderLock::Beat::Count() {
  const std::optional<LockFile> file = LockChain::Look(chain_.root());
  ++count_;
  if (!file.has_value()) {
    // Somebody removed it. Whoever makes it anew holds it.
    if (!CreateLockFile(chain_.root(), Text())) {
      Lose(LockChain::Look(chain_.root()));
    }
    return;
  }
  if (file->holder.token != token_) {
    Lose(file);
    return;
  }
  const int fd = open(chain_.root().c_str(), O_WRONLY | O_CLOEXEC);

  struct stat status {};

  if (fd >= 0 && fstat(fd, &status) == 0 && status.st_ino == file->inode) {
    const std::string text = Text();
    const auto written =
        pwrite(fd, text.data() + said_.size(), text.size() - said_.size(), static_cast<off_t>(said_.size()));
    static_cast<void>(written);  // what fails here is seen by others, who wait for a count
    static_cast<void>(fdatasync(fd));
  }
  if (fd >= 0) {
    static_cast<void>(close(fd));
  }
}

void FolderLock::Beat::Lose(const std::optional<LockFile>& other) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      return;
    }
    stopping_ = true;
  }
  const std::string reason = fmt::format(
      "{}: {} took this run folder while this process stood still or its lock was removed; it ends without "
      "touching the folder again",
      folder_,
      Named(other.has_value() ? other->holder : LockHolder{}));
  if (options_.on_lost) {
    options_.on_lost(reason);
  } else {
    EndProcess(reason);
  }
}

void FolderLock::Beat::Run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, options_.beat, [this] { return stopping_; })) {
    lock.unlock();
    try {
      Count();
    } catch (const Error&) {  // the file system fails now; it may be back at the next count
    }
    lock.lock();
  }
  ended_ = true;
  changed_.notify_all();
}

bool FolderLock::Beat::Stop(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  return changed_.wait_for(lock, limit, [this] { return ended_; });
}

void FolderLock::Beat::Remove() const {
  try {
    const std::optional<LockFile> file = LockChain::Look(chain_.root());
    if (file.has_value() && file->holder.token == token_) {
      static_cast<void>(unlink(chain_.root().c_str()));
    }
  } catch (const Error&) {  // the next start finds that its process is dead
  }
}

FolderLock::FolderLock(const std::string& folder, FolderLockOptions options)
    : beat_(std::make_shared<Beat>(folder, std::move(options))) {
  beat_->Acquire();
  try {
    thread_ = std::thread([beat = beat_] { beat->Run(); });
  } catch (const std::system_error& error) {
    beat_->Remove();
    Fail(ExitCode::kOutOfMemory, "{}: no thread for the lock of the run folder: {}", folder, error.what());
  }
}

FolderLock::~FolderLock() {
  constexpr std::chrono::seconds kLimit(10);
  if (beat_->Stop(kLimit)) {
    thread_.join();
    beat_->Remove();
  } else {
    thread_.detach();  // it hangs in a file system that does not answer
  }
}

}  // namespace ksa
