// The watchdog: silent while there is progress, and what it says when there is none.
#include "trainer/run/watchdog.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <future>
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
    RunOp("operation", stream, {}, [] {});
  }
  EXPECT_TRUE(Contains(ear.Report(), "update 3, forward and backward"));
}

TEST(Watchdog, SetUpAndCheckpointsMayTakeAMinute) {
  Ear ear;
  Watchdog watchdog(kSeconds, ear.Listener());
  for (const Phase phase : {Phase::kSetUp, Phase::kLoad, Phase::kCheckpoint, Phase::kShutDown}) {
    watchdog.Enter(phase);
    EXPECT_FALSE(ear.Hears(milliseconds(500))) << NameOf(phase);
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
