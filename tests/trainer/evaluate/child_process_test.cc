#include "trainer/evaluate/child_process.h"

#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

std::string StopFile() {
  return (std::filesystem::path(::testing::TempDir()) / "child_process_test_STOP").string();
}

TEST(ChildProcess, ExitCodesAndSignals) {
  const StopSignal stop(StopFile());
  EXPECT_EQ(RunChild({"sh", "-c", "exit 0"}, stop), 0);
  EXPECT_EQ(RunChild({"/bin/sh", "-c", "exit $(($1 + 1))", "sh", "77"}, stop), 78);
  EXPECT_EQ(RunChild({"sh", "-c", "kill -9 $$"}, stop), 128 + 9);
  EXPECT_EQ(RunChild({"no-such-program-anywhere"}, stop), 127);
}

// Some parents (cron, batch systems, shells in containers) leave SIGCHLD ignored, and it stays so over exec.
TEST(ChildProcess, ExitCodesAreKnownWhereSigchldIsIgnored) {
  const StopSignal stop(StopFile());
  const auto before = std::signal(SIGCHLD, SIG_IGN);
  EXPECT_EQ(RunChild({"sh", "-c", "exit 78"}, stop), 78);
  EXPECT_EQ(RunChild({"sh", "-c", "sleep 0.2; kill -9 $$"}, stop), 128 + 9);
  EXPECT_EQ(std::signal(SIGCHLD, before), SIG_IGN);
}

// Somebody else takes the child's status: that is no success.
TEST(ChildProcess, AnEndThatNobodyKnowsIsNoSuccess) {
  const StopSignal stop(StopFile());
  std::atomic<bool> over{false};
  std::thread thief([&] {
    while (!over) {
      static_cast<void>(waitpid(-1, nullptr, WNOHANG));
    }
  });
  std::string message;
  try {
    EXPECT_EQ(RunChild({"sh", "-c", "exit 3"}, stop), 3);  // it came first, which is as good
  } catch (const Error& error) {
    message = error.what();
    EXPECT_NE(message.find("ended is not known"), std::string::npos) << message;
  }
  over = true;
  thief.join();
}

TEST(ChildProcess, ARequestToStopReachesTheChild) {
  const StopSignal stop(StopFile());
  std::thread later([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    kill(getpid(), SIGTERM);
  });
  // The shell runs the trap after the sleep it waits for, so it waits in short steps.
  const int code =
      RunChild({"sh", "-c", "trap 'exit 85' USR1; i=0; while [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done"}, stop);
  later.join();
  EXPECT_EQ(code, 85);
}

}  // namespace
}  // namespace ksa
