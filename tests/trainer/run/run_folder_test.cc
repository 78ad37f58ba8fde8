// A start in a run folder: what a refused one leaves, identity over restarts, what is put right.
#include "trainer/run/run_folder.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/observe/metrics.h"

namespace ksa::testing {
namespace {

// Every file below a folder with its bytes, every folder with "".
std::map<std::string, std::string> Tree(const std::string& folder) {
  std::map<std::string, std::string> tree;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    tree[entry.path().string()] = entry.is_regular_file() ? Slurp(entry.path().string()) : "";
  }
  return tree;
}

// A tokenizer's file to copy.
std::string Tokenizer(const ScratchFolder& scratch) {
  std::filesystem::create_directories(scratch / "shards");
  Spill(scratch / "shards/tokenizer.model", std::string("\0\1\2", 3));
  return scratch / "shards/tokenizer.model";
}

// One start that counts.
std::string Start(const ScratchFolder& scratch, const std::string& folder) {
  const auto self = MakeSelfCommunicator();
  RunFolder run(scratch / folder, *self);
  run.Commit("run: {name: a}\n", Tokenizer(scratch));
  return run.run_id() + " " + std::to_string(run.attempt());
}

TEST(RunFolder, KeepsItsIdentityOverRestarts) {
  const ScratchFolder scratch;
  const std::string first = Start(scratch, "runs/a");
  const std::string run_id = first.substr(0, 16);
  EXPECT_EQ(first, run_id + " 1");
  EXPECT_EQ(Start(scratch, "runs/a"), run_id + " 2");
  EXPECT_EQ(Start(scratch, "runs/a/"), run_id + " 3");
  EXPECT_NE(Start(scratch, "runs/b").substr(0, 16), run_id);
}

TEST(RunFolder, ARefusedStartChangesNothing) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  Start(scratch, "run");
  Spill(scratch / "run/metrics.jsonl", "torn");
  const auto before = Tree(scratch.path());
  {
    const RunFolder refused(scratch / "run", *self);
    EXPECT_EQ(refused.attempt(), 2);
    EXPECT_TRUE(std::filesystem::exists(scratch / "run/lock"));
  }
  EXPECT_EQ(Tree(scratch.path()), before);
  EXPECT_EQ(ErrorOf([&] {
              RunFolder run(scratch / "run", *self);
              run.Commit("", scratch / "shards/metrics.jsonl");  // what a tampered index.json names
            }).code(),
            ExitCode::kBadData);
  EXPECT_EQ(Tree(scratch.path()), before);
  EXPECT_EQ(Start(scratch, "run").substr(16), " 2") << "a start that was refused does not count";
}

TEST(RunFolder, ARefusedStartLeavesNoNewFolder) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  { const RunFolder refused(scratch / "a/b/c", *self); }
  EXPECT_FALSE(std::filesystem::exists(scratch / "a"));
  std::filesystem::create_directories(scratch / "a/b");
  { const RunFolder refused(scratch / "a/b/c", *self); }
  EXPECT_TRUE(std::filesystem::is_empty(scratch / "a/b")) << "a folder that was there stays";
  // A second start that is locked out does not take the folder from the first.
  RunFolder first(scratch / "a/b/c", *self);
  EXPECT_EQ(ErrorOf([&] { const RunFolder second(scratch / "a/b/c", *self); }).code(), ExitCode::kCannotCreate);
  EXPECT_TRUE(std::filesystem::exists(scratch / "a/b/c/lock"));
  first.Commit("x: 1\n", Tokenizer(scratch));
  first.Release();
  EXPECT_FALSE(std::filesystem::exists(scratch / "a/b/c/lock"));
  EXPECT_EQ(Slurp(scratch / "a/b/c/config.resolved.yaml"), "x: 1\n");
  EXPECT_EQ(Slurp(scratch / "a/b/c/tokenizer.model"), std::string("\0\1\2", 3));
}

TEST(RunFolder, TakesTheRunOfItsCheckpointsWhenItsNameWasLost) {
  const auto self = MakeSelfCommunicator();
  for (const char* spoilt :
       {"missing", "", "\n", "ffeeddccbbaa9988", "ffeeddccbbaa9988 x", "FFEEDDCCBBAA9988 3", "\1\2"}) {
    const ScratchFolder scratch;
    SaveSmall(scratch / "checkpoints", 3, 2, "ffeeddccbbaa9988");
    {
      MetricsWriter metrics(scratch / "metrics.jsonl", "ffeeddccbbaa9988", 7);
      metrics.Write({.step = 3});
    }
    if (std::string(spoilt) != "missing") {
      Spill(scratch / "run_id", spoilt);
    }
    const RunFolder folder(scratch.path(), *self);
    EXPECT_EQ(folder.run_id(), "ffeeddccbbaa9988") << spoilt;
    EXPECT_EQ(folder.attempt(), 8) << spoilt << ": rows of attempt 7 must not win over what is written now";
    EXPECT_NE(folder.note().find("attempt 8"), std::string::npos) << folder.note();
  }
  const ScratchFolder scratch;  // no checkpoint: the metrics know
  MetricsWriter(scratch / "metrics.jsonl", "0123456789abcdef", 2).Write({.step = 1});
  const RunFolder folder(scratch.path(), *self);
  EXPECT_EQ(folder.run_id(), "0123456789abcdef");
  EXPECT_EQ(folder.attempt(), 3);
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

TEST(RunFolder, RecordsItsFirstCheckpointOnce) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  RunFolder folder(scratch / "run", *self);
  folder.Commit("", Tokenizer(scratch));
  folder.RecordFirstCheckpoint(4);
  const std::string record = Slurp(scratch / "run/first_checkpoint");
  EXPECT_EQ(record, "step_00000004 " + folder.run_id() + "\n");
  folder.RecordFirstCheckpoint(8);
  EXPECT_EQ(Slurp(scratch / "run/first_checkpoint"), record);
}

TEST(RunFolder, AFileAsksForACheckpoint) {
  const ScratchFolder scratch;
  const auto self = MakeSelfCommunicator();
  RunFolder folder(scratch / "run", *self);
  EXPECT_FALSE(folder.SaveRequested());
  folder.ConsumeSave();
  Spill(folder.paths().Save(), "");
  EXPECT_TRUE(folder.SaveRequested());
  folder.ConsumeSave();
  EXPECT_FALSE(folder.SaveRequested());
}

}  // namespace
}  // namespace ksa::testing
