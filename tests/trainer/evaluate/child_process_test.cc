#include "trainer/evaluate/child_process.h"

#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
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

TEST(ChildProcess, OutputAndEnvironmentOfItsOwn) {
  const std::filesystem::path file = std::filesystem::path(::testing::TempDir()) / "child_process_output";
  std::filesystem::remove(file);
  setenv("KSA_TEST_KEPT", "kept", 1);
  setenv("KSA_TEST_REPLACED", "old", 1);
  const WaitableChildren waitable;
  for (const char* value : {"one", "two"}) {  // the second is appended
    ChildProcess child({{"sh", "-c", "echo $KSA_TEST_KEPT $KSA_TEST_REPLACED; echo error >&2; exit 3"},
                        {{"KSA_TEST_REPLACED", value}},
                        file.string()});
    while (!child.Ended()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(child.Ended(), 3) << "it is asked again";
  }
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_EQ(text.str(), "kept one\nerror\nkept two\nerror\n");
  EXPECT_THROW(ChildProcess({{"true"}, {}, "/no/such/folder/file"}), Error);
}

// What is left behind by an error does not run on.
TEST(ChildProcess, TheDestructorEndsIt) {
  const WaitableChildren waitable;
  const auto start = std::chrono::steady_clock::now();
  { const ChildProcess child({{"sleep", "600"}, {}, ""}); }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
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
  const std::filesystem::path ready = std::filesystem::path(::testing::TempDir()) / "child_process_ready";
  std::filesystem::remove(ready);
  std::thread later([&] {
    while (!std::filesystem::exists(ready)) {  // the trap is set
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    kill(getpid(), SIGTERM);
  });
  // The shell runs the trap after the sleep it waits for, so it waits in short steps.
  const int code = RunChild({"sh",
                             "-c",
                             "trap 'exit 85' USR1; touch \"$1\"; i=0; "
                             "while [ $i -lt 1200 ]; do sleep 0.05; i=$((i+1)); done",
                             "sh",
                             ready.string()},
                            stop);
  later.join();
  stop.Consume();
  EXPECT_EQ(code, 85);
}

}  // namespace
}  // namespace ksa
