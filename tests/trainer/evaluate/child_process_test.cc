#include "trainer/evaluate/child_process.h"

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

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
