// What a save removes, replaces and counts: verified checkpoints of its own run, and nothing else.
#include "trainer/checkpoint/prune.h"

#include <filesystem>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRun = "00112233445566aa";
constexpr const char* kOther = "ffffffffffffffff";

void FlipByte(const std::string& path) {
  std::string bytes = Slurp(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  Spill(path, bytes);
}

class PruneTest : public ::testing::Test {
 protected:
  // Saves step `step` and keeps two; warnings are kept.
  void Save(int64_t step, CheckedCheckpoints* checked = nullptr, int64_t keep_every = 0) {
    SaveOptions options;
    options.folder = folder_;
    options.keep_every = keep_every;
    options.warn = [this](const std::string& text) { warnings_.push_back(text); };
    options.checked = checked;
    SaveSmallWith(options, step);
  }

  [[nodiscard]] std::string Step(int64_t step) const { return folder_ + "/" + CheckpointFolderName(step); }

  [[nodiscard]] std::vector<std::string> Names() const { return NamesIn(folder_); }

  ScratchFolder scratch_;
  std::string folder_ = scratch_ / "checkpoints";
  std::vector<std::string> warnings_;
};

TEST_F(PruneTest, KeepsTheNewestOfThisRunAndTouchesNothingElse) {
  for (int64_t step = 1; step <= 4; ++step) {
    SaveSmall(folder_, step, 10);
  }
  // Another run's checkpoint, folders of other names, an unreadable and an unfinished one.
  SaveSmall(scratch_ / "other", 5, 10, kOther);
  fs::rename(scratch_ / "other/step_00000005", folder_ + "/step_00000005");
  fs::create_directory(folder_ + "/step_0000006");
  fs::create_directory(folder_ + "/step_00000007");
  fs::copy(folder_ + "/step_00000001", folder_ + "/step_00000001.backup", fs::copy_options::recursive);
  fs::create_directory(folder_ + "/step_00000008.tmp-ffffffffffffffff");
  fs::create_directory(folder_ + "/step_00000008.tmp-00112233445566aa");
  SaveSmall(folder_, 90, 10);  // a later one than what follows, as after going back to an older checkpoint
  Save(9);
  EXPECT_EQ(Names(),
            (std::vector<std::string>{"latest",
                                      "step_00000001.backup",
                                      "step_00000004",
                                      "step_00000005",
                                      "step_00000007",
                                      "step_00000008.tmp-ffffffffffffffff",
                                      "step_00000009",
                                      "step_0000006",
                                      "step_00000090"}));
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(Step(4))).empty());
}

// keep_last counted the damaged one, and the good one before it was removed.
TEST_F(PruneTest, ADamagedCheckpointIsNeitherCountedNorRemoved) {
  SaveSmall(folder_, 8);
  SaveSmall(folder_, 9);
  FlipByte(Step(9) + "/rank_00000_of_00001.h5");
  Save(12);
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000008", "step_00000009", "step_00000012"}));
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("step_00000009"), std::string::npos) << warnings_[0];
  // 8 goes when two good ones are newer; 9 stays for whoever wants to save something from it.
  Save(16);
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000009", "step_00000012", "step_00000016"}));
}

// Beside the two newest others.
TEST_F(PruneTest, KeepsTheOnesThatAreKeptForGood) {
  for (int64_t step = 2; step <= 20; step += 2) {
    Save(step, nullptr, 6);
  }
  EXPECT_EQ(Names(),
            (std::vector<std::string>{
                "latest", "step_00000006", "step_00000012", "step_00000016", "step_00000018", "step_00000020"}));
  // One that is kept is not read again: damage to it is found by who wants it, and decides nothing here.
  FlipByte(Step(6) + "/rank_00000_of_00001.h5");
  Save(22, nullptr, 6);
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(Names(),
            (std::vector<std::string>{
                "latest", "step_00000006", "step_00000012", "step_00000018", "step_00000020", "step_00000022"}));
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(Step(12))).empty());
  EXPECT_FALSE(VerifyCheckpoint(OpenCheckpoint(Step(6))).empty());
  // A kept one that is the newest leaves the two others.
  Save(24, nullptr, 6);
  EXPECT_EQ(Names(),
            (std::vector<std::string>{"latest",
                                      "step_00000006",
                                      "step_00000012",
                                      "step_00000018",
                                      "step_00000020",
                                      "step_00000022",
                                      "step_00000024"}));
  // Without the key they count again, and the damaged one is neither counted nor removed.
  Save(26);
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000006", "step_00000024", "step_00000026"}));
}

TEST_F(PruneTest, CountsLinksAndNeverRemovesThem) {
  SaveSmall(scratch_ / "disk2", 1);
  SaveSmall(scratch_ / "disk2", 2);
  fs::create_directory(folder_);
  for (const int64_t step : {1, 2}) {
    fs::create_directory_symlink(scratch_ / "disk2" + "/" + CheckpointFolderName(step), Step(step));
  }
  SaveSmall(folder_, 3, 10);
  fs::create_directory_symlink(scratch_ / "unmounted", Step(4));
  Save(5);
  Save(6);
  EXPECT_EQ(Names(),
            (std::vector<std::string>{
                "latest", "step_00000001", "step_00000002", "step_00000004", "step_00000005", "step_00000006"}));
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(scratch_ / "disk2/step_00000001")).empty());
}

// With ranks that share the verification, one of which finds the damage.
TEST_F(PruneTest, RanksAgree) {
  const auto save = [&](int64_t step) {
    RunRanks(3, [&](Communicator& world) {
      HostAllocator allocator;
      ParameterStore store(SmallSpecs(), DType::kF32, allocator, {3, world.rank(), true});
      FillState(store);
      SaveOptions options;
      options.folder = folder_;
      options.warn = [](const std::string&) {};
      SaveCheckpoint(store, world, MetaOf(step), options);
    });
  };
  for (const int64_t step : {1, 2, 3, 4}) {
    save(step);
  }
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000003", "step_00000004"}));
  FlipByte(Step(4) + "/rank_00001_of_00003.h5");
  save(5);
  save(6);
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000004", "step_00000005", "step_00000006"}));
}

// What is known is not read again; what has changed since is.
TEST_F(PruneTest, KnowsWhatWasVerifiedUntilItChanges) {
  CheckedCheckpoints checked;
  SaveSmall(folder_, 1);
  EXPECT_FALSE(checked.Recall(Step(1)).has_value());
  checked.Remember(Step(1), true);
  EXPECT_EQ(checked.Recall(Step(1)), std::optional<bool>(true));
  Save(2, &checked);
  EXPECT_EQ(checked.Recall(Step(2)), std::optional<bool>(true));
  FlipByte(Step(1) + "/rank_00000_of_00001.h5");
  EXPECT_FALSE(checked.Recall(Step(1)).has_value());
  Save(3, &checked);
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000001", "step_00000002", "step_00000003"}));
  EXPECT_EQ(warnings_.size(), 1U);
  EXPECT_EQ(checked.Recall(Step(1)), std::optional<bool>(false));
  Save(4, &checked);
  EXPECT_EQ(warnings_.size(), 1U);  // said once, and not read again
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000001", "step_00000003", "step_00000004"}));
}

// A search leaves what it found out, so that the first save need not read it again.
TEST_F(PruneTest, ASearchRemembersItsAnswers) {
  SaveSmall(folder_, 1);
  SaveSmall(folder_, 2);
  FlipByte(Step(2) + "/rank_00000_of_00001.h5");
  CheckedCheckpoints checked;
  const auto self = MakeSelfCommunicator();
  EXPECT_EQ(FindNewestCheckpoint(folder_, *self, &checked).checkpoint.path, Step(1));
  EXPECT_EQ(checked.Recall(Step(1)), std::optional<bool>(true));
  EXPECT_EQ(checked.Recall(Step(2)), std::optional<bool>(false));
}

TEST_F(PruneTest, AGoodCheckpointOfTheSameStepIsReplaced) {
  SaveSmall(folder_, 1);
  SaveSmall(folder_, 2);
  Save(2);
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(Step(2))).empty());
  EXPECT_EQ(Names(), (std::vector<std::string>{"latest", "step_00000001", "step_00000002"}));
}

TEST_F(PruneTest, ADamagedCheckpointOfTheSameStepIsMovedAside) {
  SaveSmall(folder_, 2);
  fs::resize_file(Step(2) + "/rank_00000_of_00001.h5", 100);
  Save(2);
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(Step(2))).empty());
  EXPECT_EQ(fs::file_size(Step(2) + ".replaced-1/rank_00000_of_00001.h5"), 100U);
  EXPECT_EQ(warnings_.size(), 1U);
}

TEST_F(PruneTest, WhatIsNotItsOwnIsMovedAside) {
  SaveSmall(folder_, 2, 2, kOther);
  fs::create_directory(Step(3));
  Spill(Step(3) + "/notes.txt", "mine");
  SaveSmall(scratch_ / "disk2", 4);
  fs::create_directory_symlink(scratch_ / "disk2/step_00000004", Step(4));
  fs::create_directory_symlink("step_00000005", Step(5));  // to itself
  for (const int64_t step : {2, 3, 4, 5}) {
    Save(step);
    EXPECT_EQ(OpenCheckpoint(Step(step)).manifest.meta.run_id, kRun);
  }
  EXPECT_EQ(OpenCheckpoint(Step(2) + ".replaced-1").manifest.meta.run_id, kOther);
  EXPECT_EQ(Slurp(Step(3) + ".replaced-1/notes.txt"), "mine");
  EXPECT_TRUE(fs::is_symlink(Step(4) + ".replaced-1"));
  EXPECT_TRUE(VerifyCheckpoint(OpenCheckpoint(scratch_ / "disk2/step_00000004")).empty());
  EXPECT_TRUE(fs::is_symlink(Step(5) + ".replaced-1"));
}

}  // namespace
}  // namespace ksa::testing
