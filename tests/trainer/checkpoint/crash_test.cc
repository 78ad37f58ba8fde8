// Interrupted and failing saves: older checkpoints survive, leftovers are ignored and later removed, no rank hangs.
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRun = "00112233445566aa";

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

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

TEST(Save, OfAStepThatExistsReplacesIt) {
  const ScratchFolder scratch;
  SaveSmall(scratch.path(), 1);
  const std::string path = SaveSmall(scratch.path(), 2);
  fs::resize_file(path + "/rank_00000_of_00001.h5", 100);
  SaveSmall(scratch.path(), 2);
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(path)).empty());
  EXPECT_EQ(NamesIn(scratch.path()), (std::vector<std::string>{"latest", "step_00000001", "step_00000002"}));
}

TEST(Save, MovesAsideWhatIsNotItsOwn) {
  const ScratchFolder scratch;
  SaveSmall(scratch.path(), 2, 2, "ffffffffffffffff");  // another run's
  fs::create_directory(scratch / "step_00000003");
  Spill(scratch / "step_00000003/notes.txt", "mine");
  SaveSmall(scratch.path(), 2);
  SaveSmall(scratch.path(), 3);
  EXPECT_EQ(OpenCheckpoint(scratch / "step_00000002").manifest.meta.run_id, kRun);
  EXPECT_EQ(OpenCheckpoint(scratch / "step_00000002.replaced-1").manifest.meta.run_id, "ffffffffffffffff");
  EXPECT_EQ(Slurp(scratch / "step_00000003.replaced-1/notes.txt"), "mine");
}

TEST(Prune, KeepsTheNewestOfThisRunAndTouchesNothingElse) {
  const ScratchFolder scratch;
  const std::string folder = scratch / "checkpoints";
  for (int64_t step = 1; step <= 3; ++step) {
    SaveSmall(folder, step, 10);
  }
  // Another run's checkpoint, a link to a checkpoint, folders of other names, an unreadable and an unfinished one.
  SaveSmall(scratch / "other", 4, 10, "ffffffffffffffff");
  fs::rename(scratch / "other/step_00000004", folder + "/step_00000004");
  SaveSmall(scratch / "other", 5, 10);
  fs::create_directory_symlink(scratch / "other/step_00000005", folder + "/step_00000005");
  fs::create_directory(folder + "/step_0000006");
  fs::create_directory(folder + "/step_00000007");
  fs::copy(folder + "/step_00000001", folder + "/step_00000001.backup", fs::copy_options::recursive);
  fs::create_directory(folder + "/step_00000008.tmp-ffffffffffffffff");
  fs::create_directory(folder + "/step_00000008.tmp-00112233445566aa");
  SaveSmall(folder, 90, 10);  // a later one than what follows, as after going back to an older checkpoint
  SaveSmall(folder, 9, 2);
  EXPECT_EQ(NamesIn(folder),
            (std::vector<std::string>{"latest",
                                      "step_00000001.backup",
                                      "step_00000003",
                                      "step_00000004",
                                      "step_00000005",
                                      "step_00000007",
                                      "step_00000008.tmp-ffffffffffffffff",
                                      "step_00000009",
                                      "step_0000006",
                                      "step_00000090"}));
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(scratch / "other/step_00000005")).empty());
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(folder + "/step_00000003")).empty());
}

// A disk of `size` in memory, for one test.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& size) : path_(path) {
    fs::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
  }

  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  ~SmallDisk() {
    if (mounted_) {
      static_cast<void>(umount2(path_.c_str(), MNT_DETACH));
    }
  }

  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

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
  const SmallDisk small(disk, "9m");
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
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(folder)).empty());
  // Space is made: training went on, and the next save works.
  fs::remove(disk + "/other");
  SaveMegabytes(folder, 3);
  EXPECT_EQ(OpenCheckpoint(folder).manifest.meta.step, 3);
}

// Every amount of free space between nothing and enough: the error may come from making the file, from its contents,
// from the manifest, or from `latest`, when the checkpoint itself is complete.
TEST(FullDisk, AtAnyPointOfTheSaveIsSurvived) {
  const ScratchFolder scratch;
  const std::string disk = scratch / "disk";
  const SmallDisk small(disk, "8m");
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
      if (std::string(error.what()).find("latest") != std::string::npos) {
        EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(disk + "/checkpoints")).empty());
      } else {
        EXPECT_TRUE(NamesIn(disk + "/checkpoints").empty()) << free_kib << ": " << error.what();
      }
    }
    fs::remove_all(disk + "/checkpoints");
    fs::remove(disk + "/other");
  }
}

}  // namespace
}  // namespace ksa::testing
