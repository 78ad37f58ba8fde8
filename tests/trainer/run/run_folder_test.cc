// The run folder: one trainer at a time, the lock of a dead process, identity over restarts, stop requests.
#include "trainer/run/run_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/run/stop_signal.h"

namespace ksa::testing {
namespace {

std::string HostName() {
  std::array<char, 256> name{};
  EXPECT_EQ(gethostname(name.data(), name.size() - 1), 0);
  return name.data();
}

TEST(FolderLock, KeepsASecondTrainerOut) {
  const ScratchFolder scratch;
  {
    const FolderLock lock(scratch.path());
    const Error error = ErrorOf([&] { const FolderLock second(scratch.path()); });
    EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
    EXPECT_NE(std::string(error.what()).find(fmt::format("process {} on {}", getpid(), HostName())), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(std::filesystem::exists(scratch / "lock"));
  const FolderLock again(scratch.path());
}

TEST(FolderLock, OfAKilledProcessDoesNotCount) {
  const ScratchFolder scratch;
  std::array<int, 2> ready{};
  ASSERT_EQ(pipe(ready.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    const FolderLock lock(scratch.path());
    static_cast<void>(!write(ready[1], "x", 1));
    pause();
    _exit(1);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_NE(std::string(ErrorOf([&] { const FolderLock second(scratch.path()); }).what())
                .find(fmt::format("process {} on {}", child, HostName())),
            std::string::npos);
  kill(child, SIGKILL);
  // Dead, but not reaped yet: where nobody reaps orphans, a killed trainer stays like this for good.
  siginfo_t ended{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(std::filesystem::exists(scratch / "lock"));
  const FolderLock after(scratch.path());
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_NE(Slurp(scratch / "lock").find(fmt::format("{} {} ", HostName(), getpid())), std::string::npos);
  static_cast<void>(close(ready[0]));
  static_cast<void>(close(ready[1]));
}

TEST(FolderLock, IsJudgedByItsContents) {
  const ScratchFolder scratch;
  const auto refused = [&](const std::string& text) {
    Spill(scratch / "lock", text);
    try {
      const FolderLock lock(scratch.path());
      return false;
    } catch (const Error& error) {
      return error.code() == ExitCode::kCannotCreate;
    }
  };
  EXPECT_FALSE(refused("another-host 1 1\n"));                            // it would hold the flock if it lived
  EXPECT_FALSE(refused(HostName() + " 1 999999999\n"));                   // the number was given to a new process
  EXPECT_TRUE(refused(fmt::format("{} {} 0\n", HostName(), getppid())));  // alive, start unknown
  EXPECT_FALSE(refused(""));                                              // a crash before it was filled
  EXPECT_FALSE(refused("\x01\x02 garbage"));
}

TEST(FolderLock, OfAnotherHostCountsWhileItIsHeld) {
  const ScratchFolder scratch;
  Spill(scratch / "lock", "another-host 1 1\n");
  const int held = open((scratch / "lock").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(held, LOCK_EX | LOCK_NB), 0);
  const Error error = ErrorOf([&] { const FolderLock lock(scratch.path()); });
  EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
  EXPECT_NE(std::string(error.what()).find("process 1 on another-host"), std::string::npos) << error.what();
  static_cast<void>(close(held));
  const FolderLock lock(scratch.path());
}

TEST(RunFolder, KeepsItsIdentityOverRestarts) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  std::string run_id;
  for (int64_t attempt = 1; attempt <= 3; ++attempt) {
    const RunFolder folder(scratch / "runs/a", *self);
    EXPECT_EQ(folder.attempt(), attempt);
    EXPECT_EQ(folder.run_id().size(), 16U);
    EXPECT_EQ(folder.run_id(), attempt == 1 ? folder.run_id() : run_id);
    run_id = folder.run_id();
  }
  const RunFolder other(scratch / "runs/b", *self);
  EXPECT_NE(other.run_id(), run_id);
}

TEST(RunFolder, TakesTheRunOfItsCheckpointsWhenItsNameWasLost) {
  const ScratchFolder scratch;
  SaveSmall(scratch / "checkpoints", 3, 2, "ffeeddccbbaa9988");
  const auto self = MakeSelfCommunicator();
  EXPECT_EQ(RunFolder(scratch.path(), *self).run_id(), "ffeeddccbbaa9988");
}

TEST(RunFolder, IsTheSameOnAllRanksAndFailsOnAll) {
  const ScratchFolder scratch;
  std::array<std::string, 3> ids;
  RunRanks(3, [&](Communicator& world) {
    const RunFolder folder(scratch / "run", world);
    ids[static_cast<size_t>(world.rank())] = folder.run_id();
    EXPECT_EQ(folder.attempt(), 1);
    world.Barrier();
  });
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(ids[0], ids[2]);
  Spill(scratch / "file", "");
  for (const std::string& path : {scratch / "file", scratch / "file/run"}) {
    for (const std::exception_ptr& error :
         RunRanksToEnd(3, [&](Communicator& world) { RunFolder folder(path, world); })) {
      ASSERT_TRUE(error);
      EXPECT_EQ(ErrorOf([&] { std::rethrow_exception(error); }).code(), ExitCode::kCannotCreate);
    }
  }
}

TEST(RunFolder, KeepsConfigurationAndTokenizer) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  const RunFolder folder(scratch / "run", *self);
  folder.WriteConfig("run: {name: a}\n");
  EXPECT_EQ(Slurp(scratch / "run/config.resolved.yaml"), "run: {name: a}\n");
  Spill(scratch / "tok.model", std::string("\0\1\2", 3));
  folder.CopyTokenizer(scratch / "tok.model");
  EXPECT_EQ(Slurp(scratch / "run/tok.model"), std::string("\0\1\2", 3));
}

TEST(StopSignal, SeesSignalsAndTheFileAndRestoresTheHandlers) {
  const ScratchFolder scratch;

  struct sigaction before {};

  ASSERT_EQ(sigaction(SIGUSR1, nullptr, &before), 0);
  {
    const StopSignal stop(scratch / "STOP");
    EXPECT_FALSE(stop.Requested());
    EXPECT_EQ(stop.Reason(), "");
    raise(SIGUSR1);
    EXPECT_TRUE(stop.Requested());
    EXPECT_EQ(stop.Reason(), "SIGUSR1");
    stop.Consume();
    EXPECT_FALSE(stop.Requested());
    raise(SIGTERM);
    EXPECT_EQ(stop.Reason(), "SIGTERM");
    stop.Consume();
    Spill(scratch / "STOP", "");
    EXPECT_TRUE(stop.Requested());
    EXPECT_EQ(stop.Reason(), "the file " + (scratch / "STOP"));
    stop.Consume();
    EXPECT_FALSE(stop.Requested());
    EXPECT_FALSE(std::filesystem::exists(scratch / "STOP"));
    raise(SIGUSR1);
  }

  struct sigaction after {};

  ASSERT_EQ(sigaction(SIGUSR1, nullptr, &after), 0);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
  const StopSignal fresh(scratch / "STOP");
  EXPECT_FALSE(fresh.Requested());  // an earlier request is not this one's
}

}  // namespace
}  // namespace ksa::testing
