// Interrupted and failing saves: older checkpoints survive, leftovers are ignored and later removed, no rank hangs.
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/disk_support.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRun = "00112233445566aa";

// The folder as a kill at this moment would leave it.
void TakeSnapshot(const std::string& folder, const std::string& to) {
  fs::copy(folder, to, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
}

class Crash : public ::testing::TestWithParam<SaveStage> {};

TEST_P(Crash, AfterAnyStageLeavesAGoodCheckpointAndTheNextSaveCleansUp) {
  const ScratchFolder scratch;
  const std::string folder = scratch / "checkpoints";
  const std::string crashed = scratch / "crashed";
  SaveSmall(folder, 1, 2);
  SaveSmall(folder, 2, 2);
  SaveSmall(folder, 3, 2, kRun, [&](SaveStage stage) {
    if (stage == GetParam()) {
      TakeSnapshot(folder, crashed);
    }
  });
  const bool committed = GetParam() >= SaveStage::kRenamed;
  const auto self = MakeSelfCommunicator();
  const FoundCheckpoint found = FindNewestCheckpoint(crashed, *self);
  ASSERT_TRUE(found.found);
  EXPECT_EQ(found.checkpoint.manifest.meta.step, committed ? 3 : 2);
  EXPECT_TRUE(found.refused.empty());
  EXPECT_TRUE(VerifyCheckpoint(found.checkpoint).empty());

  SaveSmall(crashed, 4, 2);
  EXPECT_EQ(NamesIn(crashed),
            (std::vector<std::string>{"latest", committed ? "step_00000003" : "step_00000002", "step_00000004"}));
  EXPECT_EQ(Slurp(crashed + "/latest"), "step_00000004\n");
}

INSTANTIATE_TEST_SUITE_P(Stages,
                         Crash,
                         ::testing::Values(SaveStage::kFolderMade,
                                           SaveStage::kTensorsWritten,
                                           SaveStage::kManifestWritten,
                                           SaveStage::kRenamed,
                                           SaveStage::kLatestReplaced,
                                           SaveStage::kPruned));

TEST(Save, ThatFailsOnOneRankFailsOnAllAndLeavesNothing) {
  for (int failing = 0; failing < 3; ++failing) {
    const ScratchFolder scratch;
    const std::string good = SaveSmall(scratch.path(), 1);
    const auto errors = RunRanksToEnd(3, [&](Communicator& world) {
      HostAllocator allocator;
      ParameterStore store(SmallSpecs(), DType::kF32, allocator, {3, world.rank(), true});
      const auto fail = [&](SaveStage stage) {
        if (stage == SaveStage::kTensorsWritten && world.rank() == failing) {
          Fail(ExitCode::kIo, "the disk is full");
        }
      };
      SaveCheckpoint(store, world, MetaOf(2), {scratch.path(), 2, fail});
    });
    for (const std::exception_ptr& error : errors) {
      ASSERT_TRUE(error);
      const Error caught = ErrorOf([&] { std::rethrow_exception(error); });
      EXPECT_EQ(caught.code(), ExitCode::kIo);
      EXPECT_NE(std::string(caught.what()).find("the disk is full"), std::string::npos);
    }
    EXPECT_EQ(NamesIn(scratch.path()), (std::vector<std::string>{"latest", "step_00000001"}));
    EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(good)).empty());
  }
}

TEST(Save, IntoAnImpossibleFolderIsRefused) {
  const ScratchFolder scratch;
  Spill(scratch / "file", "not a folder");
  EXPECT_EQ(ErrorOf([&] { SaveSmall(scratch / "file/checkpoints", 1); }).code(), ExitCode::kCannotCreate);
}

// Saves a model of 3 x 1 MiB.
void SaveMegabytes(const std::string& folder, int64_t step, const std::function<void(SaveStage)>& on_stage = {}) {
  HostAllocator allocator;
  ParameterStore store({{.name = "w", .shape = {512, 512}, .init_std = 1.0}}, DType::kF32, allocator);
  store.Initialize(1, Stream{});
  const auto self = MakeSelfCommunicator();
  SaveCheckpoint(store, *self, MetaOf(step), {folder, 2, on_stage});
}

TEST(FullDisk, IsReportedAndLeavesOlderCheckpointsAndNoPartialOnes) {
  const ScratchFolder scratch;
  const std::string disk = scratch / "disk";
  const SmallDisk small(disk, "size=9m");
  if (!small.mounted()) {
    GTEST_SKIP() << "mounting a small disk needs root: " << std::strerror(errno);
  }
  const std::string folder = disk + "/checkpoints";
  SaveMegabytes(folder, 1);
  // The disk fills up after it was looked at: writing fails.
  const auto fill = [&](SaveStage stage) {
    if (stage == SaveStage::kFolderMade) {
      Spill(disk + "/other", std::string(4 << 20, 'x'));
    }
  };
  const Error late = ErrorOf([&] { SaveMegabytes(folder, 2, fill); });
  EXPECT_EQ(late.code(), ExitCode::kIo);
  EXPECT_EQ(NamesIn(folder), (std::vector<std::string>{"latest", "step_00000001"}));
  // It is full from the start: nothing is begun.
  const Error early = ErrorOf([&] { SaveMegabytes(folder, 2); });
  EXPECT_EQ(early.code(), ExitCode::kIo);
  EXPECT_NE(std::string(early.what()).find("are free on this disk"), std::string::npos) << early.what();
  EXPECT_NE(std::string(late.what()).find("No space left on device"), std::string::npos) << late.what();
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(folder)).empty());
  // Space is made: training went on, and the next save works.
  fs::remove(disk + "/other");
  SaveMegabytes(folder, 3);
  EXPECT_EQ(OpenCheckpoint(folder).manifest.meta.step, 3);
}

// Every amount of free space between nothing and enough: the error may come from making the file, from its contents, or
// from the manifest. `latest`, which is written when the checkpoint is complete, is no reason to fail.
TEST(FullDisk, AtAnyPointOfTheSaveIsSurvived) {
  const ScratchFolder scratch;
  const std::string disk = scratch / "disk";
  const SmallDisk small(disk, "size=8m");
  if (!small.mounted()) {
    GTEST_SKIP() << "mounting a small disk needs root: " << std::strerror(errno);
  }
  for (const int64_t free_kib : {0, 4, 8, 12, 16, 64, 1024, 2048, 3064, 3072, 3076, 3080, 3084}) {
    const auto fill = [&](SaveStage stage) {
      if (stage == SaveStage::kFolderMade) {
        const int64_t bytes = static_cast<int64_t>(fs::space(disk).available) - free_kib * 1024;
        Spill(disk + "/other", std::string(static_cast<size_t>(bytes), 'x'));
      }
    };
    try {
      SaveMegabytes(disk + "/checkpoints", 1, fill);
      EXPECT_GE(free_kib, 3072);
      EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(disk + "/checkpoints")).empty());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kIo) << error.what();
      EXPECT_NE(std::string(error.what()).find("No space left on device"), std::string::npos) << error.what();
      EXPECT_TRUE(NamesIn(disk + "/checkpoints").empty()) << free_kib << ": " << error.what();
    }
    fs::remove_all(disk + "/checkpoints");
    fs::remove(disk + "/other");
  }
}

// A save that was killed has left most of the disk taken: the next one makes room first, and a start counts on that.
TEST(FullDisk, OfLeftOversIsNotFull) {
  const ScratchFolder scratch;
  const std::string disk = scratch / "disk";
  const SmallDisk small(disk, "size=8m");
  if (!small.mounted()) {
    GTEST_SKIP() << "mounting a small disk needs root: " << std::strerror(errno);
  }
  const std::string folder = disk + "/checkpoints";
  const std::string left_over = folder + "/step_00000001.tmp-" + kRun;
  fs::create_directories(left_over);
  Spill(left_over + "/rank_00000_of_00001.h5", std::string(6 << 20, 'x'));
  CheckRoomForCheckpoint(folder, 3 << 20, kRun);
  EXPECT_EQ(ErrorOf([&] { CheckRoomForCheckpoint(folder, 3 << 20, "ffffffffffffffff"); }).code(), ExitCode::kIo);
  SaveMegabytes(folder, 2);
  EXPECT_EQ(NamesIn(folder), (std::vector<std::string>{"latest", "step_00000002"}));
  // What only seems to take room gives none back.
  fs::create_directories(left_over);
  Spill(left_over + "/sparse", "");
  fs::resize_file(left_over + "/sparse", 64 << 20);
  EXPECT_EQ(ErrorOf([&] { CheckRoomForCheckpoint(folder, 6 << 20, kRun); }).code(), ExitCode::kIo);
}

// What the message says is done.
TEST(FullDisk, HasRoomWhenOldCheckpointsAreRemovedByHand) {
  const ScratchFolder scratch;
  const std::string disk = scratch / "disk";
  const SmallDisk small(disk, "size=9m");
  if (!small.mounted()) {
    GTEST_SKIP() << "mounting a small disk needs root: " << std::strerror(errno);
  }
  const std::string folder = disk + "/checkpoints";
  SaveMegabytes(folder, 1);
  SaveMegabytes(folder, 2);
  const Error error = ErrorOf([&] { SaveMegabytes(folder, 3); });
  EXPECT_EQ(error.code(), ExitCode::kIo);
  EXPECT_NE(std::string(error.what()).find("all checkpoints but the newest good one may be removed"), std::string::npos)
      << error.what();
  fs::remove_all(folder + "/step_00000001");
  SaveMegabytes(folder, 3);
  EXPECT_EQ(NamesIn(folder), (std::vector<std::string>{"latest", "step_00000002", "step_00000003"}));
}

TEST(Room, IsLookedForWhereTheFolderWillBe) {
  const ScratchFolder scratch;
  CheckRoomForCheckpoint(scratch / "run/checkpoints", 1, "");
  const Error error = ErrorOf([&] { CheckRoomForCheckpoint(scratch / "run/checkpoints", int64_t{1} << 60, kRun); });
  EXPECT_EQ(error.code(), ExitCode::kIo);
  EXPECT_NE(std::string(error.what()).find("run/checkpoints"), std::string::npos);
  EXPECT_FALSE(fs::exists(scratch / "run"));
}

// The last inode is gone: not a folder that was chosen badly.
TEST(FullDisk, WithoutInodesIsAnIoError) {
  const ScratchFolder scratch;
  const std::string disk = scratch / "disk";
  const SmallDisk small(disk, "size=32m,nr_inodes=12");
  if (!small.mounted()) {
    GTEST_SKIP() << "mounting a small disk needs root: " << std::strerror(errno);
  }
  int refused = 0;
  for (int taken = 0; taken < 11; ++taken) {
    Spill(disk + "/" + std::to_string(taken), "");
    try {
      SaveMegabytes(disk + "/checkpoints", 1);
      fs::remove_all(disk + "/checkpoints");
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(error.code(), ExitCode::kIo) << error.what();
      EXPECT_NE(std::string(error.what()).find("No space left on device"), std::string::npos) << error.what();
    }
  }
  EXPECT_GE(refused, 4);
}

}  // namespace
}  // namespace ksa::testing
