// Absence, damage and failure are three things: which checkpoints are there, which are damaged, which cannot be read.
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/disk_support.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/verify.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

class FindTest : public ::testing::Test {
 protected:
  void SetUp() override {
    older_ = SaveSmall(folder_, 1);
    newer_ = SaveSmall(folder_, 2);
    fs::permissions(scratch_.path(), fs::perms(0755));
  }

  [[nodiscard]] FoundCheckpoint Find() const {
    const auto self = MakeSelfCommunicator();
    return FindNewestCheckpoint(folder_, *self);
  }

  // The newer one is refused with this code and word; the older one is found.
  void ExpectRefused(ExitCode code, const std::string& word) const {
    const FoundCheckpoint found = Find();
    ASSERT_EQ(found.refused.size(), 1U);
    EXPECT_EQ(found.refused[0].path, newer_);
    EXPECT_EQ(found.refused[0].code, code) << found.refused[0].reason;
    EXPECT_NE(found.refused[0].reason.find(word), std::string::npos) << found.refused[0].reason;
    ASSERT_TRUE(found.found);
    EXPECT_EQ(found.checkpoint.path, older_);
  }

  ScratchFolder scratch_;
  std::string folder_ = scratch_ / "checkpoints";
  std::string older_;
  std::string newer_;
};

TEST_F(FindTest, LinksToFoldersAreCheckpoints) {
  fs::create_directory(scratch_ / "disk2");
  for (const std::string& path : {older_, newer_}) {
    const std::string target = scratch_ / "disk2/" + fs::path(path).filename().string();
    fs::rename(path, target);
    fs::create_directory_symlink(target, path);
  }
  const FoundCheckpoint found = Find();
  ASSERT_TRUE(found.found);
  EXPECT_EQ(found.checkpoint.path, newer_);
  EXPECT_TRUE(found.refused.empty());
  EXPECT_EQ(ListCheckpoints(folder_), (std::vector<std::string>{older_, newer_}));
  // The whole folder behind a link, too.
  fs::rename(folder_, scratch_ / "moved");
  fs::create_directory_symlink(scratch_ / "moved", folder_);
  EXPECT_EQ(OpenCheckpoint(scratch_.path()).path, newer_);
}

TEST_F(FindTest, ALinkThatLeadsNowhereIsNotAbsence) {
  fs::remove_all(newer_);
  fs::create_directory_symlink(scratch_ / "unmounted/step_00000002", newer_);
  ExpectRefused(ExitCode::kIo, "mounted");
  fs::remove_all(older_);
  const FoundCheckpoint found = Find();
  EXPECT_FALSE(found.found);
  EXPECT_EQ(found.refused.size(), 1U);
}

TEST_F(FindTest, WhatMayNotBeReadIsNotDamaged) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root to become somebody else";
  }
  const std::string file = newer_ + "/rank_00000_of_00001.h5";
  for (const std::string& closed : {file, newer_ + "/manifest.json", newer_}) {
    fs::permissions(closed, fs::perms(0));
    {
      const AsNobody nobody;
      ExpectRefused(ExitCode::kIo, "Permission denied");
    }
    fs::permissions(closed, fs::perms(0755));
  }
  const AsNobody nobody;
  EXPECT_TRUE(Find().refused.empty());
}

TEST_F(FindTest, AFolderThatMayNotBeListedIsNotEmpty) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root to become somebody else";
  }
  fs::permissions(folder_, fs::perms(0));
  const AsNobody nobody;
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(Find()); }).code(), ExitCode::kIo);
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenCheckpoint(folder_)); }).code(), ExitCode::kIo);
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenCheckpoint(newer_)); }).code(), ExitCode::kIo);
}

// Twice: our own descriptor of the file, and HDF5's second one.
TEST_F(FindTest, TooFewDescriptorsAreNotDamage) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP()
      << "the sanitizer opens a pipe to look at an exception's type, and takes a refused pipe for a bad object";
#endif
  const Checkpoint checkpoint = OpenCheckpoint(newer_);
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int next = dup(0);
  ASSERT_GE(next, 0);
  close(next);
  for (const int more : {0, 1}) {
    const rlimit tight = {static_cast<rlim_t>(next + more), limit.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    const std::vector<Fault> faults = VerifyCheckpoint(checkpoint);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ASSERT_EQ(faults.size(), 1U);
    EXPECT_EQ(faults[0].code, ExitCode::kIo) << faults[0].text;
    EXPECT_NE(faults[0].text.find("Too many open files"), std::string::npos) << faults[0].text;
  }
}

TEST_F(FindTest, PipesFoldersAndLoopsInPlaceOfFilesAreDamage) {
  for (const char* name : {"manifest.json", "rank_00000_of_00001.h5"}) {
    const std::string file = newer_ + "/" + name;
    const std::string good = Slurp(file);
    fs::remove(file);
    ExpectRefused(ExitCode::kBadData, name);
    ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
    ExpectRefused(ExitCode::kBadData, "a pipe");
    EXPECT_EQ(OwnerOf(newer_).empty(), name == std::string("manifest.json"));
    fs::remove(file);
    fs::create_directory(file);
    ExpectRefused(ExitCode::kBadData, "a folder");
    fs::remove(file);
    fs::create_symlink(name, file);
    ExpectRefused(ExitCode::kBadData, name);
    fs::remove(file);
    Spill(file, good);
  }
  EXPECT_TRUE(Find().refused.empty());
}

TEST_F(FindTest, ReadersHearWhatWasPassedOver) {
  fs::resize_file(newer_ + "/rank_00000_of_00001.h5", 100);
  std::vector<std::string> heard;
  const auto hear = [&](const RefusedCheckpoint& refused) { heard.push_back(Describe(refused)); };
  EXPECT_EQ(OpenCheckpoint(scratch_.path(), hear).path, older_);
  ASSERT_EQ(heard.size(), 1U);
  EXPECT_EQ(heard[0].find("checkpoint " + newer_ + " is passed over: "), 0U) << heard[0];
  // Those who say nothing about it say it on stderr.
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(OpenCheckpoint(folder_).path, older_);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "warning: " + heard[0] + "\n");
  // Once, whatever the number of ranks.
  std::atomic<int> times = 0;
  RunRanks(3, [&](Communicator& world) {
    EXPECT_EQ(OpenCheckpoint(folder_, world, [&](const RefusedCheckpoint&) { ++times; }).path, older_);
  });
  EXPECT_EQ(times, 1);
}

TEST_F(FindTest, WhenNoneIsGoodTheCodeTellsDamageFromFailure) {
  fs::resize_file(older_ + "/rank_00000_of_00001.h5", 100);
  fs::resize_file(newer_ + "/rank_00000_of_00001.h5", 100);
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenCheckpoint(folder_)); }).code(), ExitCode::kBadData);
  fs::remove_all(older_);
  fs::create_directory_symlink("unmounted", older_);
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenCheckpoint(folder_)); }).code(), ExitCode::kIo);
}

// A trainer prunes while others read.
TEST_F(FindTest, WhatWasPrunedWhileItWasReadIsNotDamaged) {
  const Checkpoint checkpoint = OpenCheckpoint(newer_);
  EXPECT_FALSE(HasGone(checkpoint));
  fs::rename(newer_, newer_ + ".tmp-00112233445566aa");
  EXPECT_TRUE(HasGone(checkpoint));
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  const Error error = ErrorOf([&] { LoadInto(store, checkpoint, LoadParts::kWeights, Stream{}); });
  EXPECT_EQ(error.code(), ExitCode::kMissingInput);
  EXPECT_NE(std::string(error.what()).find("removed or replaced while it was read"), std::string::npos);
  const auto self = MakeSelfCommunicator();
  EXPECT_TRUE(Examine(newer_, 2, *self).gone);
  // Another one of the name is not the one that was opened.
  SaveSmall(folder_, 2);
  EXPECT_TRUE(HasGone(checkpoint));
  EXPECT_TRUE(Examine(newer_, 2, *self).good());
}

}  // namespace
}  // namespace ksa::testing
