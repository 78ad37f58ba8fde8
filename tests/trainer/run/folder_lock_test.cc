// The lock of a run folder: who counts as alive, and that of any number of starts at once one wins.
#include "trainer/run/folder_lock.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include <sched.h>

#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kBeat(20);

std::string HostName() {
  std::array<char, 256> name{};
  EXPECT_EQ(gethostname(name.data(), name.size() - 1), 0);
  return name.data();
}

// Another host's; the process cannot be seen from here.
FolderLockOptions On(const std::string& host, milliseconds patience) {
  return {.host = host, .place = host, .beat = kBeat, .patience = patience};
}

// Empty: it was not refused.
std::string Refusal(const std::string& folder, const FolderLockOptions& options) {
  try {
    const FolderLock lock(folder, options);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate) << error.what();
    return error.what();
  }
}

// A process that holds the lock until it is killed.
class Holder {
 public:
  Holder(const std::string& folder, const FolderLockOptions& options) {
    std::array<int, 2> ready{};
    EXPECT_EQ(pipe(ready.data()), 0);
    pid_ = fork();
    if (pid_ == 0) {
      const FolderLock lock(folder, options);
      static_cast<void>(!write(ready[1], "x", 1));
      pause();
      _exit(1);
    }
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    static_cast<void>(close(ready[0]));
    static_cast<void>(close(ready[1]));
  }

  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  ~Holder() {
    kill(pid_, SIGKILL);
    EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
  }

  [[nodiscard]] pid_t pid() const { return pid_; }

  // Where nobody reaps orphans, a killed trainer stays like this for good.
  void KillWithoutReaping() const {
    kill(pid_, SIGKILL);
    siginfo_t ended{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOWAIT), 0);
  }

 private:
  pid_t pid_ = 0;
};

size_t FilesIn(const std::string& folder) {
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) {
    ++files;
  }
  return files;
}

TEST(FolderLock, KeepsASecondTrainerOut) {
  const ScratchFolder scratch;
  {
    const FolderLock lock(scratch.path());
    EXPECT_NE(Refusal(scratch.path(), {}).find(fmt::format("process {} on {}", getpid(), HostName())),
              std::string::npos);
  }
  EXPECT_EQ(FilesIn(scratch.path()), 0U);
  const FolderLock again(scratch.path());
}

TEST(FolderLock, OfAKilledProcessDoesNotCount) {
  const ScratchFolder scratch;
  const Holder holder(scratch.path(), {});
  EXPECT_NE(Refusal(scratch.path(), {}).find(fmt::format("process {} on {}", holder.pid(), HostName())),
            std::string::npos);
  holder.KillWithoutReaping();
  EXPECT_TRUE(std::filesystem::exists(scratch / "lock"));
  const Clock::time_point begin = Clock::now();
  const FolderLock after(scratch.path());
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(30)) << "it waited for a sign of life";
  EXPECT_NE(Slurp(scratch / "lock").find(fmt::format("{} {} ", HostName(), getpid())), std::string::npos);
  EXPECT_EQ(FilesIn(scratch.path()), 1U);
}

TEST(FolderLock, IsJudgedByItsContents) {
  const ScratchFolder scratch;
  const auto refused = [&](const std::string& text) {
    Spill(scratch / "lock", text);
    return !Refusal(scratch.path(), {.beat = kBeat, .patience = milliseconds(100)}).empty();
  };
  EXPECT_FALSE(refused("another-host 1 1\n"));                            // does not count up
  EXPECT_FALSE(refused(HostName() + " 1 999999999\n"));                   // the number was given to a new process
  EXPECT_TRUE(refused(fmt::format("{} {} 0\n", HostName(), getppid())));  // alive, start unknown
  EXPECT_FALSE(refused(""));                                              // a crash before it was filled
  EXPECT_FALSE(refused("\x01\x02 garbage"));
  EXPECT_FALSE(refused("h 1 1 place to/ken 0\n"));
  EXPECT_FALSE(refused("h 1 1 place " + std::string(900, 'x')));
}

TEST(FolderLock, OfAnotherHostCountsWhileItCountsUp) {
  const ScratchFolder scratch;
  constexpr milliseconds kPatience(1000);
  const Holder holder(scratch.path(), On("a", kPatience));
  EXPECT_NE(Refusal(scratch.path(), On("b", milliseconds(20000))).find(fmt::format("process {} on a", holder.pid())),
            std::string::npos);
  holder.KillWithoutReaping();
  const Clock::time_point begin = Clock::now();
  FolderLockOptions options = On("b", kPatience);
  std::vector<std::string> said;
  options.say = [&](const std::string& line) { said.push_back(line); };
  EXPECT_EQ(Refusal(scratch.path(), options), "");
  ASSERT_EQ(said.size(), 1U);  // once, however often it looks
  EXPECT_NE(said[0].find("may hold this run folder: waiting for a sign of life, 1 s at most"), std::string::npos);
  EXPECT_GE(Clock::now() - begin, kPatience);
  EXPECT_EQ(FilesIn(scratch.path()), 0U);
}

TEST(FolderLock, IsTakenOverFromThoseThatDiedTakingItOver) {
  const ScratchFolder scratch;
  const std::string dead = HostName() + " 1 999999999 ";
  Spill(scratch / "lock", dead + "\n");
  const std::string first = fmt::format("lock.after-inode-{}", [&] {
    struct stat status {};
    EXPECT_EQ(stat((scratch / "lock").c_str(), &status), 0);
    return status.st_ino;
  }());
  Spill(scratch / first, "x 1 1 another t1 0\n");
  Spill(scratch / "lock.after-t1", "x 1 1 another t2 0\n");
  {
    const FolderLock lock(scratch.path(), On("b", milliseconds(200)));
    EXPECT_EQ(FilesIn(scratch.path()), 1U);
    EXPECT_EQ(Slurp(scratch / "lock").find(fmt::format("b {} ", getpid())), 0U);
  }
  // The last of them lives: it holds the lock, whatever the file `lock` says.
  Spill(scratch / "lock", "x 1 1 another t1 0\n");
  Spill(scratch / "lock.after-t1", fmt::format("{} {} 0\n", HostName(), getppid()));
  EXPECT_NE(Refusal(scratch.path(), {.beat = kBeat, .patience = milliseconds(100)}).find(std::to_string(getppid())),
            std::string::npos);
}

TEST(FolderLock, EndsWhoLostIt) {
  const ScratchFolder scratch;
  std::promise<std::string> lost;
  std::future<std::string> reason = lost.get_future();
  {
    FolderLockOptions options = On("a", milliseconds(1000));
    options.on_lost = [&](const std::string& why) { lost.set_value(why); };
    const FolderLock lock(scratch.path(), options);
    std::filesystem::remove(scratch / "lock");  // by hand, while nobody else comes: it is made again
    for (int i = 0; i < 1000 && !std::filesystem::exists(scratch / "lock"); ++i) {
      std::this_thread::sleep_for(kBeat);
    }
    EXPECT_EQ(Slurp(scratch / "lock").find(fmt::format("a {} ", getpid())), 0U);
    Spill(scratch / "new", "b 7 1 b other 0\n");
    std::filesystem::rename(scratch / "new", scratch / "lock");
    ASSERT_EQ(reason.wait_for(std::chrono::seconds(30)), std::future_status::ready);
    EXPECT_NE(reason.get().find("process 7 on b took this run folder"), std::string::npos);
  }
  EXPECT_EQ(Slurp(scratch / "lock"), "b 7 1 b other 0\n");  // not this one's to remove
}

TEST(FolderLock, AProcessThatLostItEndsWith73) {
  const ScratchFolder scratch;
  const pid_t child = fork();
  if (child == 0) {
    const FolderLock lock(scratch.path(), On("a", milliseconds(1000)));
    Spill(scratch / "lock", "b 7 1 b other 0\n");
    sleep(60);
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kCannotCreate));
}

TEST(FolderLock, SaysWhyItCannotBeMade) {
  const ScratchFolder scratch;
  Spill(scratch / "file", "");
  EXPECT_NE(Refusal(scratch / "file", {}).find("Not a directory"), std::string::npos);
  std::filesystem::create_directory(scratch / "lock");
  EXPECT_NE(Refusal(scratch.path(), {}).find("not a regular file"), std::string::npos);
}

// What the processes of a round share.
struct Round {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::atomic<int> holders{0};
  std::atomic<int> wins{0};
  std::atomic<int> refused{0};
  std::atomic<int> together{0};
};

constexpr int kProcesses = 6;
constexpr int kAttempts = 10;  // of each

struct Contest {
  std::optional<std::string> lock;  // what is there before; none: nothing
  bool two_hosts = false;
  bool die = false;  // every third that wins leaves its lock behind
  milliseconds patience{10000};
};

void Compete(const std::string& folder, const Contest& contest, int number, Round& round) {
  FolderLockOptions options = On(contest.two_hosts && number % 2 == 1 ? "b" : "a", contest.patience);
  ++round.ready;
  while (!round.go) {
    sched_yield();
  }
  for (int attempt = 1; attempt <= kAttempts; ++attempt) {
    try {
      const FolderLock lock(folder, options);
      if (++round.holders != 1) {
        ++round.together;
      }
      ++round.wins;
      std::this_thread::sleep_for(std::chrono::microseconds(500));
      --round.holders;
      if (contest.die && (number + attempt) % 3 == 0) {
        _exit(0);
      }
    } catch (const Error&) {
      ++round.refused;
    }
  }
}

void Play(const Contest& contest) {
  const ScratchFolder scratch;
  void* shared = mmap(nullptr, sizeof(Round), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  Round& round = *new (shared) Round;
  if (contest.lock.has_value()) {
    Spill(scratch / "lock", *contest.lock);
  }
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(fork());
    if (children.back() == 0) {
      Compete(scratch.path(), contest, i, round);
      _exit(0);
    }
  }
  while (round.ready < kProcesses) {
    sched_yield();
  }
  round.go = true;
  for (const pid_t child : children) {
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
  }
  EXPECT_EQ(round.together, 0) << "two held the lock at the same time";
  EXPECT_GE(round.wins, 1);
  if (!contest.die) {
    EXPECT_EQ(round.wins + round.refused, kProcesses * kAttempts);
  }
  munmap(shared, sizeof(Round));
}

TEST(FolderLock, OfManyStartsAtOnceNeverTwoWin) {
  const std::string dead = "a 4000000 1 a t0 0\n";  // above the largest process number
  for (int i = 0; i < 15; ++i) {
    Play({});
    Play({.two_hosts = true});
    Play({.lock = dead, .die = true});
  }
  for (int i = 0; i < 3; ++i) {
    Play({.lock = "", .patience = milliseconds(300)});
    Play({.lock = "c 1 1 c t0 0\n", .patience = milliseconds(300)});
    Play({.lock = dead, .two_hosts = true, .patience = milliseconds(3000)});
  }
}

}  // namespace
}  // namespace ksa::testing
