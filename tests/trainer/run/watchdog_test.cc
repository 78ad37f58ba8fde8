// The watchdog: silent while there is progress, and what it says when there is none.
#include "trainer/run/watchdog.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "kernels/core/op.h"

namespace ksa {
namespace {

using std::chrono::milliseconds;

constexpr double kSeconds = 0.2;

// Keeps the first report.
class Ear {
 public:
  [[nodiscard]] Watchdog::OnHang Listener() {
    return [this](const std::string& report) { promise_.set_value(report); };
  }

  [[nodiscard]] bool Hears(milliseconds limit) const { return future_.wait_for(limit) == std::future_status::ready; }

  // "" when nothing is said within 20 seconds.
  [[nodiscard]] std::string Report() { return Hears(milliseconds(20000)) ? future_.get() : ""; }

 private:
  std::promise<std::string> promise_;
  std::future<std::string> future_ = promise_.get_future();
};

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Watchdog, SaysNothingWhileThereIsProgress) {
  Ear ear;
  Watchdog watchdog(1.0, ear.Listener());
  for (int i = 0; i < 30; ++i) {
    watchdog.Enter(Phase::kGradients);
    std::this_thread::sleep_for(milliseconds(50));
  }
  EXPECT_FALSE(ear.Hears(milliseconds(0)));
}

TEST(Watchdog, NamesRankUpdatePhaseAndCall) {
  Ear ear;
  Watchdog watchdog(kSeconds, ear.Listener());
  watchdog.SetRank(3, "node7");
  watchdog.BeginUpdate(12);
  watchdog.Enter(Phase::kUpdate);
  watchdog.Begin("tensor", CollectiveKind::kAllGather, "gather rows", 100);
  watchdog.End();
  watchdog.Begin("data x context", CollectiveKind::kAllReduce, "sum gradients", 2048);
  const std::string report = ear.Report();
  EXPECT_TRUE(Contains(report,
                       "watchdog: rank 3 on host node7: update 12, sum of gradients and update, in all-reduce 'sum "
                       "gradients' of group 'data x context', 2.0 KiB: no progress for 0."))
      << report;
  EXPECT_TRUE(Contains(report,
                       "newest first: all-reduce 'sum gradients' of group 'data x context', 2.0 KiB < all-gather "
                       "'gather rows' of group 'tensor'"))
      << report;
}

TEST(Watchdog, KeepsTheLastTenCalls) {
  Ear ear;
  Watchdog watchdog(kSeconds, ear.Listener());
  watchdog.Enter(Phase::kUpdate);
  for (int i = 0; i < 25; ++i) {
    watchdog.Begin("data", CollectiveKind::kAllReduce, ("call " + std::to_string(i) + ".").c_str(), 1);
    watchdog.End();
  }
  const std::string report = ear.Report();
  EXPECT_TRUE(Contains(report, "call 24.")) << report;
  EXPECT_TRUE(Contains(report, "call 15.")) << report;
  EXPECT_FALSE(Contains(report, "call 14.")) << report;
}

TEST(Watchdog, OnAGpuTheHostWaitsForTheDevice) {
  Ear ear;
  Watchdog watchdog(kSeconds, ear.Listener());
  watchdog.SetDevice(true);
  watchdog.BeginUpdate(1);
  watchdog.Enter(Phase::kUpdate);
  EXPECT_TRUE(Contains(ear.Report(), "update 1, sum of gradients and update, waiting for the device"));
}

// A long forward and backward pass is no hang while its operations go on.
TEST(Watchdog, OperationsAreProgress) {
  Ear ear;
  Watchdog watchdog(kSeconds, ear.Listener());
  watchdog.BeginUpdate(3);
  watchdog.Enter(Phase::kGradients);
  const Stream stream = {.operations = watchdog.operations()};
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(ear.Hears(milliseconds(static_cast<int>(kSeconds * 250.0))));
    RunOp("operation", stream, {}, NoWork, [] {});
  }
  EXPECT_TRUE(Contains(ear.Report(), "update 3, forward and backward"));
}

// Three times the limit, and no more: the guide says so.
TEST(Watchdog, SetUpAndCheckpointsMayTakeThreeTimesAsLong) {
  for (const Phase phase : {Phase::kStart, Phase::kSetUp, Phase::kLoad, Phase::kCheckpoint, Phase::kShutDown}) {
    Ear ear;
    Watchdog watchdog(kSeconds, ear.Listener());
    const auto begin = std::chrono::steady_clock::now();
    watchdog.Enter(phase);
    EXPECT_TRUE(Contains(ear.Report(), NameOf(phase)));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    EXPECT_GT(took.count(), 3.0 * kSeconds);
    EXPECT_LT(took.count(), 15.0);
  }
}

TEST(Watchdog, ReportsWhatThePollThrows) {
  Ear ear;
  Watchdog watchdog(10.0, ear.Listener());
  watchdog.SetPoll([] { Fail(ExitCode::kPeerLost, "a link is down"); });
  EXPECT_TRUE(Contains(ear.Report(), "a link is down"));
}

TEST(Watchdog, NamesTheRanksThatSayNothing) {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("ksa_ranks_" + std::to_string(getpid()))).string();
  const std::vector<std::string> hosts = {"a", "a", "b", "b"};
  {
    Ear ear;
    RankStates third(folder, 3, hosts);
    third.Tell("update 4, forward and backward");
    ASSERT_TRUE(third.Finish(milliseconds(20000)));
    Watchdog second(kSeconds, [](const std::string& /*report*/) {});
    Watchdog first(2.0 * kSeconds, ear.Listener());
    int rank = 0;
    for (Watchdog* watchdog : {&first, &second}) {
      watchdog->SetRank(rank, hosts[static_cast<size_t>(rank)]);
      watchdog->SetStates(folder, hosts);
      watchdog->BeginUpdate(5);
      watchdog->Begin("world", CollectiveKind::kAllReduce, "sum", 8);
      ++rank;
    }
    const std::string report = ear.Report();
    EXPECT_TRUE(Contains(report, "nothing is heard of rank(s) 2 on b")) << report;
    EXPECT_TRUE(Contains(report, "rank 3 on b is at update 4, forward and backward")) << report;
    EXPECT_TRUE(Contains(report, "rank(s) 1 on a wait at the same place")) << report;
  }
  EXPECT_FALSE(std::filesystem::exists(folder));
}

// A file that nobody writes, or reads, to its end stands for a file system that does not answer.
class DeadFolder {
 public:
  DeadFolder() {
    std::filesystem::create_directory(path_);
    for (const char* name : {"rank_00000.state", "rank_00000.state.tmp", "rank_00001.state"}) {
      EXPECT_EQ(mkfifo((path_ + "/" + name).c_str(), 0600), 0) << name;
    }
  }

  DeadFolder(const DeadFolder&) = delete;
  DeadFolder& operator=(const DeadFolder&) = delete;

  ~DeadFolder() {
    for (const char* name : {"rank_00000.state.tmp", "rank_00001.state"}) {  // lets the threads that wait go
      const int fd = open((path_ + "/" + name).c_str(), O_RDWR | O_NONBLOCK);
      std::this_thread::sleep_for(milliseconds(50));
      static_cast<void>(close(fd));
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / ("ksa_dead_" + std::to_string(getpid()))).string();
};

TEST(Watchdog, ReportsThoughTheFileSystemDoesNotAnswer) {
  for (const Phase phase : {Phase::kUpdate, Phase::kCheckpoint}) {
    const DeadFolder folder;
    Ear ear;
    Watchdog watchdog(kSeconds, ear.Listener());
    watchdog.SetRank(0, "a");
    watchdog.SetStates(folder.path(), {"a", "b"});
    watchdog.BeginUpdate(7);
    watchdog.Enter(phase);
    const std::string report = ear.Report();
    EXPECT_TRUE(Contains(report, std::string("rank 0 on host a: update 7, ") + NameOf(phase))) << report;
    EXPECT_TRUE(Contains(report, folder.path() + " does not answer")) << report;
  }
}

// The library that is asked whether it lost something may hang as well.
TEST(Watchdog, ReportsThoughThePollHangs) {
  const auto free = std::make_shared<std::promise<void>>();
  std::shared_future<void> released = free->get_future().share();
  Ear ear;
  Watchdog watchdog(kSeconds, ear.Listener());
  watchdog.SetPoll([released] { released.wait(); });
  watchdog.BeginUpdate(2);
  EXPECT_TRUE(Contains(ear.Report(), "update 2, wait for data: no progress for 0."));
  free->set_value();
}

// Standard error is a pipe that is full, and the folder is dead: the process ends all the same.
TEST(WatchdogDeathTest, EndsWithItsCodeWhateverHangs) {
  const DeadFolder folder;
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  ASSERT_EQ(fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK), 0);
  const std::string block(4096, 'x');
  while (write(pipe_ends[1], block.data(), block.size()) > 0) {
  }
  ASSERT_EQ(fcntl(pipe_ends[1], F_SETFL, 0), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDERR_FILENO);
    Watchdog watchdog(kSeconds);
    watchdog.SetStates(folder.path(), {"a", "b"});
    watchdog.BeginUpdate(1);
    std::this_thread::sleep_for(std::chrono::seconds(60));
    _exit(1);
  }
  int status = 0;
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::kPeerLost));
  static_cast<void>(close(pipe_ends[0]));
  static_cast<void>(close(pipe_ends[1]));
}

TEST(Watchdog, ZeroSwitchesItOff) {
  Ear ear;
  Watchdog watchdog(0.0, ear.Listener());
  watchdog.Enter(Phase::kUpdate);
  EXPECT_FALSE(ear.Hears(milliseconds(300)));
}

TEST(WatchdogSeconds, ComeFromTheEnvironment) {
  unsetenv("KSA_WATCHDOG_SECONDS");
  EXPECT_EQ(WatchdogSeconds(), 600.0);
  setenv("KSA_WATCHDOG_SECONDS", "2.5", 1);
  EXPECT_EQ(WatchdogSeconds(), 2.5);
  for (const char* bad : {"soon", "-1", "1s", "nan"}) {
    setenv("KSA_WATCHDOG_SECONDS", bad, 1);
    EXPECT_THROW(static_cast<void>(WatchdogSeconds()), Error) << bad;
  }
  unsetenv("KSA_WATCHDOG_SECONDS");
}

}  // namespace
}  // namespace ksa
