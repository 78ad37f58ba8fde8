// The run folder: identity over restarts, what it keeps, stop requests.
#include "trainer/run/run_folder.h"

#include <signal.h>

#include <array>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/run/stop_signal.h"

namespace ksa::testing {
namespace {

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
