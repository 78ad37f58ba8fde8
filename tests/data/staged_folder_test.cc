#include "data/shards/staged_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "data/files/paths.h"
#include "data/tools/shard_space.h"
#include "data/tools/tokenize.h"
#include "tests/data/support.h"

namespace ksa {
namespace {

using testing::TestFolder;
namespace fs = std::filesystem;

TEST(StagedFolder, AppearsWholeOrNotAtAll) {
  const TestFolder folder;
  {
    const StagedFolder dropped(folder / "out");
    testing::WriteFile(dropped.staging() + "/file", "x");
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  {
    StagedFolder kept(folder / "deep/out/");
    EXPECT_EQ(kept.name(), "out");
    testing::WriteFile(kept.staging() + "/file", "x");
    EXPECT_FALSE(fs::exists(folder / "deep/out"));
    kept.Commit();
  }
  EXPECT_EQ(testing::ReadFile(folder / "deep/out/file"), "x");
  EXPECT_KSA_ERROR(StagedFolder(folder / "deep/out"), ExitCode::kCannotCreate, "exists already");
}

// An empty folder may be a disk of its own, which nothing can be renamed onto: it stays, and what is written lies on
// it.
TEST(StagedFolder, AnEmptyFolderKeepsItsPlace) {
  const TestFolder folder;
  fs::create_directory(folder / "out");
  const auto inode = [&] {
    struct stat status {};

    EXPECT_EQ(stat((folder / "out").c_str(), &status), 0);
    return status.st_ino;
  };
  const ino_t before = inode();
  {
    const StagedFolder dropped(folder / "out");
    EXPECT_EQ(fs::path(dropped.staging()).parent_path(), folder / "out");
    testing::WriteFile(dropped.staging() + "/file", "x");
    EXPECT_KSA_ERROR(StagedFolder(folder / "out"), ExitCode::kCannotCreate, "exists already");
  }
  EXPECT_TRUE(fs::is_empty(folder / "out"));
  StagedFolder kept(folder / "out");
  testing::WriteFile(kept.staging() + "/index.json", "x");
  testing::WriteFile(kept.staging() + "/z.h5", "x");
  kept.Commit();
  EXPECT_EQ(NamesIn(folder / "out"), std::vector<std::string>({"index.json", "z.h5"}));
  EXPECT_EQ(inode(), before);
}

TEST(StagedFolder, LinksAndTheWorkingDirectoryAreResolved) {
  const TestFolder folder;
  fs::create_directory(folder / "real");
  fs::create_directory(folder / "here");
  fs::create_directory_symlink("real", folder / "link");
  {
    StagedFolder through(folder / "link");
    testing::WriteFile(through.staging() + "/file", "x");
    through.Commit();
  }
  EXPECT_EQ(testing::ReadFile(folder / "real/file"), "x");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  {
    StagedFolder below(folder / "link/new");
    below.Commit();
  }
  EXPECT_TRUE(fs::is_directory(folder / "real/new"));

  const fs::path before = fs::current_path();
  fs::current_path(folder / "here");
  {
    StagedFolder here(".");
    EXPECT_EQ(here.name(), "here");
    testing::WriteFile(here.staging() + "/file", "x");
    here.Commit();
  }
  EXPECT_EQ(testing::ReadFile("file"), "x");
  fs::current_path(before);
}

// All of it before the first byte of the input is read.
TEST(StagedFolder, WhatCannotBePutInPlaceIsRefusedAtOnce) {
  const TestFolder folder;
  testing::WriteFile(folder / "file", "");
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("loop", folder / "loop");
  EXPECT_KSA_ERROR(StagedFolder(folder / "file"), ExitCode::kCannotCreate, "exists already");
  EXPECT_KSA_ERROR(StagedFolder(folder / "file/out"), ExitCode::kCannotCreate, "Not a directory");
  EXPECT_KSA_ERROR(StagedFolder(folder / "dangling"), ExitCode::kCannotCreate, "leads nowhere");
  EXPECT_KSA_ERROR(StagedFolder(folder / "loop"), ExitCode::kCannotCreate, "symbolic links");
  EXPECT_KSA_ERROR(StagedFolder(folder / "caf\xE9"), ExitCode::kCannotCreate, "not UTF-8");
  EXPECT_KSA_ERROR(StagedFolder(folder / std::string(300, 'x')), ExitCode::kCannotCreate, "name too long");
  const testing::AsNobody nobody;
  EXPECT_KSA_ERROR(StagedFolder(folder / "out"), ExitCode::kCannotCreate, "Permission denied");
}

TEST(ShardFolderWriter, ANameThatIsTooLongForItsFilesIsRefused) {
  const TestFolder folder;
  const auto tokenizer = MakeByteTokenizer();
  EXPECT_NO_THROW(ShardFolderWriter(folder.path().string(), std::string(233, 'x'), *tokenizer));
  EXPECT_KSA_ERROR(ShardFolderWriter(folder.path().string(), std::string(234, 'x'), *tokenizer),
                   ExitCode::kCannotCreate,
                   "the most are 233");
}

// --- room on the disk

TEST(ShardSpace, CountsTheLastShardTwice) {
  EXPECT_EQ(ShardSpace(1000, 10, 257, 1), 2 * (2000 + 80));
  EXPECT_EQ(ShardSpace(1000, 0, 100000, 4), 5000);
}

TEST(ShardSpace, TooLittleRoomIsSaidBeforeTheWork) {
  const TestFolder folder;
  const std::string path = folder.path().string();
  const int64_t free = FreeBytes(path);
  std::string warned;
  const Warn warn = [&](const std::string& text) { warned = text; };
  CheckShardSpace(path, free / 2, true, warn);
  EXPECT_EQ(warned, "");
  CheckShardSpace(path, free / 2 * 3, true, warn);  // an estimate may be wrong
  EXPECT_NE(warned.find("may not suffice"), std::string::npos);
  EXPECT_KSA_ERROR(CheckShardSpace(path, free * 3, true, warn), ExitCode::kIo, "Make room");
  EXPECT_KSA_ERROR(CheckShardSpace(path, free / 2 * 3, false, warn), ExitCode::kIo, "at least");
}

// A sparse file of more than the disk has: nothing but its beginning is read.
TEST(ShardSpace, TokenizingEstimatesItFromTheBeginning) {
  const TestFolder folder;
  testing::WriteFile(folder / "text", std::string(2 << 20, 'x') + "\n");
  if (truncate((folder / "text").c_str(), 2 * FreeBytes(folder.path().string())) != 0) {
    GTEST_SKIP() << "the file system has no sparse files of that size";
  }
  TokenizeOptions options;
  options.inputs = {folder / "text"};
  options.output = folder / "out";
  EXPECT_KSA_ERROR(TokenizeText(options), ExitCode::kIo, "writing the shards takes about");
  EXPECT_FALSE(fs::exists(folder / "out"));
}

}  // namespace
}  // namespace ksa
